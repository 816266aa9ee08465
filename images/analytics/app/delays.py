"""Prints the mean departure delay of one batch of the flights table. Reads only.

    BATCH_URL   where the batches are; batch i is at BATCH_URL/i.csv
"""

import os
import statistics
import sys

from load import batch


def main() -> None:
    if "--self-test" in sys.argv:
        assert mean([{"dep_delay": "1"}, {"dep_delay": ""}, {"dep_delay": "3"}]) == 2
        print("self-test passed")
        return
    index = int(os.environ["MUSTER_TASK_INDEX"])
    print(f"batch {index}: {mean(batch(index)):.1f} minutes")


def mean(rows) -> float:
    return statistics.mean(float(row["dep_delay"]) for row in rows if row["dep_delay"] not in ("", "NA"))


if __name__ == "__main__":
    main()
