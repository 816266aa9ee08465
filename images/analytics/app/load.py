"""Loads one batch of the flights table into the CRM.

Runs as one task of an array job: task i loads batch i. It may be run again at any time, also while an
earlier attempt still runs, because every chunk it sends carries the same idempotency key in every
attempt, and the attempt's number as a fence.

    BATCH_URL   where the batches are; batch i is at BATCH_URL/i.csv
    CRM_URL     where the records go
    CHUNK       records in one request, default 1000
"""

import csv
import io
import os
import urllib.request

from crm import Crm
from metrics import Histogram, write_metrics
from transform import record

# Batches are at most 5,000 records.
SIZE_BUCKETS = (500, 1000, 2000, 3000, 4000, 5000)


def main() -> None:
    index = int(os.environ["MUSTER_TASK_INDEX"])
    records = [record(row) for row in batch(index)]
    crm = Crm(os.environ["CRM_URL"], stamp())
    answers = {"stored": 0, "known": 0}
    for number, chunk in enumerate(chunks(records)):
        answers[crm.post(f"{os.environ['MUSTER_IDEMPOTENCY_KEY']}/{number}", chunk)] += 1
    report(len(records), answers)
    print(f"batch {index}: {len(records)} records, chunks stored {answers['stored']}, known before {answers['known']}")


def batch(index: int) -> csv.DictReader:
    with urllib.request.urlopen(f"{os.environ['BATCH_URL']}/{index}.csv", timeout=30) as answer:
        return csv.DictReader(io.StringIO(answer.read().decode()))


def chunks(records: list[dict]) -> list[list[dict]]:
    size = int(os.environ.get("CHUNK", "1000"))
    return [records[start : start + size] for start in range(0, len(records), size)]


def stamp() -> dict[str, str]:
    """Who loads this, for the sink to keep beside the data."""
    return {
        "X-Muster-Fence": os.environ["MUSTER_FENCE"],
        "X-Muster-Task": os.environ["MUSTER_TASK_ID"],
        "X-Muster-Agent": os.environ["MUSTER_AGENT"],
        "X-Muster-Image-Digest": os.environ["MUSTER_IMAGE_DIGEST"],
        "X-Analytics-Version": os.environ["ANALYTICS_VERSION"],
    }


def report(size: int, answers: dict[str, int]) -> None:
    sizes = Histogram("analytics_batch_records", "Records in a batch.", SIZE_BUCKETS)
    sizes.observe(size)
    write_metrics(
        [
            sizes.text(),
            "# HELP analytics_chunks_total Chunks by the CRM's answer.\n# TYPE analytics_chunks_total counter\n",
            *(f'analytics_chunks_total{{answer="{answer}"}} {count}\n' for answer, count in answers.items()),
        ]
    )


if __name__ == "__main__":
    main()
