"""What must be true at the end, each with the figures it is judged by."""

import json
import re
import urllib.request


class Checks:
    """Prints each finding and remembers whether any is not as it should be."""

    def __init__(self) -> None:
        self.failures = 0

    def expect(self, holds: bool, text: str) -> None:
        self.failures += not holds
        print(f"  {'ok  ' if holds else 'FAIL'}  {text}")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def shares(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} by {name}" for name, count in sorted(counts.items()))


def records(checks: Checks, report: dict, given) -> None:
    total, distinct = report["records"], report["distinct"]
    checks.expect(
        total == distinct == given.rows and report["fingerprint"] == given.fingerprint,
        f"the CRM holds {total:,} records, {distinct:,} distinct, of {given.rows:,} in the table; "
        f"their contents are {'' if report['fingerprint'] == given.fingerprint else 'not '}the table's",
    )
    checks.expect(report["batches"] == given.batches, f"{report['batches']} of {given.batches} batches")


def versions(checks: Checks, report: dict, old: str, new: str, batches: int) -> None:
    by = report["batches_by_digest"]
    before, after = by.get(old, 0), by.get(new, 0)
    checks.expect(
        before > 0 and after > 0 and before + after == batches,
        f"{before} batches ran the image {short(old)}, {after} the image {short(new)} that was pushed meanwhile",
    )


def agents(checks: Checks, report: dict, names: list[str]) -> None:
    by = report["batches_by_agent"]
    checks.expect(sorted(by) == sorted(names), f"batches: {shares(by)}")


def restarts(checks: Checks, containers: dict, daemons: list, batches: int) -> None:
    started = sum(seen["start"] for seen in containers.values())
    restarted = sum(seen["start"] - 1 + seen["restart"] for seen in containers.values() if seen["start"])
    changed = [daemon.name for daemon in daemons if not daemon.is_unchanged()]
    checks.expect(
        restarted == 0 and started >= batches and not changed,
        f"{restarted + len(changed)} restarts: {started} containers were each started once, "
        f"and {len(daemons) - len(changed)} of {len(daemons)} daemons are the processes they were",
    )


class Distribution:
    """The histogram of batch sizes, as the push gateway has it for one job name."""

    def __init__(self, gateway: str, job: str) -> None:
        self.buckets: list[tuple[str, int]] = []
        self.count = self.sum = 0
        for name, labels, value in samples(fetch(f"http://{gateway}/metrics")):
            if labels.get("job") != job or labels.get("team") != "default":
                continue
            if name == "analytics_batch_records_bucket":
                self.buckets.append((labels["le"], int(value)))
            elif name == "analytics_batch_records_sum":
                self.sum = int(value)
            elif name == "analytics_batch_records_count":
                self.count = int(value)
        self.buckets.sort(key=lambda bucket: float(bucket[0]))

    def lines(self) -> list[str]:
        """One for each range that is not empty: the gateway's figures are cumulative."""
        shown, below, low = [], 0, 0
        for bound, total in self.buckets:
            if total > below:
                shown.append(f"{low + 1:>5} to {bound:<5} records: {total - below:>3} batches")
            if bound != "+Inf":
                low = int(float(bound))
            below = total
        return shown


def samples(text: str):
    for line in text.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found:
            labels = {key: json.loads(value) for key, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', found[2] or "")}
            yield found[1], labels, float(found[3])


def distribution(checks: Checks, seen: Distribution, given) -> None:
    checks.expect(
        seen.count == given.batches and seen.sum == given.rows,
        f"the push gateway counts {seen.count} batches with {seen.sum:,} records:",
    )
    for line in seen.lines():
        print(f"          {line}")
