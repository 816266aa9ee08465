"""Two pushes under load while the channel has a policy: a good image comes through its canary, and one that crashes
is rolled back by itself."""

import pathlib
import shutil

import checks
import engine
from fleet import Fleet, await_true

JOB = "delays"
TASKS = "40"
POLICY = """
kind: Channel
name: analytics
repository: {repository}
tag: latest
policy:
  prefetch: {{enough_percent: 100%, at_a_time: 2}}
  validate: {{command: [python3, delays.py, --self-test], timeout: 1m}}
  canary: {{first: 6, sample: 6, jobs: [{job}]}}
  gates: {{failures: 3}}
"""


class Rollouts:
    def __init__(self, fleet: Fleet, image: str, base: str, context: pathlib.Path, batches: str) -> None:
        self.fleet, self.image, self.base, self.context = fleet, image, base, context
        self.batches = batches
        self.jobs: list[str] = []

    def run(self, tell) -> None:
        manifest = self.fleet.directory / "analytics.yaml"
        manifest.write_text(POLICY.format(repository=self.image.rpartition(":")[0], job=JOB))
        tell(self.fleet.call("apply", "-f", str(manifest)).splitlines()[-1])
        # The gates hold new attempts against these.
        self.load()
        self.wait(self.jobs[-1])

        self.push(3, self.context)
        self.good = self.follow(tell)
        self.push(4, self.broken())
        self.bad = self.follow(tell)
        for job in self.jobs:
            self.wait(job)

    def push(self, version: int, context: pathlib.Path) -> None:
        before = self.newest()
        engine.build_and_push(self.image, self.base, version, context)
        await_true(f"the rollout of version {version}", 20, lambda: self.newest() != before)

    def newest(self) -> int:
        found = self.fleet.ask("rollout", "list", "analytics", "--limit", "1")["rollouts"]
        return found[0]["to"]["number"] if found else 0

    def load(self) -> None:
        words = ["--name", JOB, "--array", TASKS, "--cpus", "0.5", "-m", "128m", "--retries", "user=0,infra=3"]
        env = ["-e", f"BATCH_URL={self.batches}"]
        submitted = self.fleet.call("run", "-d", *words, *env, "analytics", "python3", "delays.py")
        self.jobs.append(submitted.splitlines()[-1])

    def follow(self, tell) -> dict:
        """Keeps the fleet busy until the rollout has ended, and prints its timeline."""
        release = str(self.newest())

        def ended():
            if self.fleet.ask("job", "get", self.jobs[-1])["ended"]:
                self.load()
            rollout = self.fleet.ask("rollout", "status", "analytics", "--release", release)
            return rollout["end"] and rollout

        self.load()
        rollout = await_true(f"the end of the rollout to release {release}", 120, ended)
        tell(f"the rollout to release {release} has ended:")
        print(self.fleet.call("rollout", "status", "analytics", "--release", release))
        return rollout

    def wait(self, job: str) -> None:
        await_true(f"the end of job {job[-8:]}", 120, lambda: self.fleet.ask("job", "get", job)["ended"])

    def broken(self) -> pathlib.Path:
        """The same image with a mistake that its self-test does not find."""
        context = self.fleet.directory / "broken"
        shutil.copytree(self.context, context)
        script = context / "app/delays.py"
        script.write_text(script.read_text().replace("MUSTER_TASK_INDEX", "TASK_INDEX"))
        return context

    def verify(self, found: checks.Checks) -> None:
        good, bad = self.good, self.bad
        found.expect(good["end"]["how"] == "promoted", f"release {good['to']['number']} came through its canary of {good['canaries']}")
        found.expect(bad["end"]["how"] == "rolled_back", f"release {bad['to']['number']} was rolled back: {bad['end']['reason']}")
        current = self.fleet.ask("channel", "get", "analytics")["current"]
        found.expect(current["digest"] == good["to"]["digest"], "the channel is at the good image")
        counts = [self.fleet.ask("job", "get", job)["counts"] for job in self.jobs]
        succeeded = sum(count["succeeded"] for count in counts)
        total = len(self.jobs) * int(TASKS)
        forgiven = bad["forgiven"]
        found.expect(
            succeeded == total and forgiven >= 3,
            f"{succeeded} of {total} tasks succeeded with no retries of their own; {forgiven} canaries crashed and ran again",
        )
