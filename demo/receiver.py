"""A small CRM: takes records over HTTP, and serves the batches they come from.

    POST /records          a JSON list of records, all stored or none
        Idempotency-Key    a key seen before is answered `known`, and nothing is stored
        X-Muster-Fence     a number smaller than the largest seen for the same task is refused (409)
        X-Muster-…         who loads it; kept beside the chunk
    GET  /report           what it really holds
    GET  /batches/N.csv    a batch

It takes a limited number of records a second, as such systems do: who sends more waits.
Records are appended, without any uniqueness over their keys: a record that was loaded twice is here
twice, and the report says so.
"""

import argparse
import hashlib
import json
import os
import pathlib
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMA = """
CREATE TABLE chunks (
    idempotency_key TEXT PRIMARY KEY, task TEXT, fence INTEGER, agent TEXT, digest TEXT, version TEXT
);
CREATE TABLE records (key TEXT, body TEXT);
CREATE TABLE fences (task TEXT PRIMARY KEY, fence INTEGER);
"""


class Held:
    """What the CRM holds. One connection behind one lock: a request is one transaction."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(SCHEMA)
        self._refused = 0
        self._known = 0

    def store(self, key: str, headers: dict[str, str], records: list[dict]) -> str:
        """`stored`, `known` or `stale_fence`."""
        task, fence = headers["X-Muster-Task"], int(headers["X-Muster-Fence"])
        with self._lock, self._db:
            if self._newest_fence(task) > fence:
                self._refused += 1
                return "stale_fence"
            self._db.execute("INSERT OR REPLACE INTO fences VALUES (?, ?)", (task, fence))
            if self._db.execute("SELECT 1 FROM chunks WHERE idempotency_key = ?", (key,)).fetchone():
                self._known += 1
                return "known"
            who = [headers[f"X-{name}"] for name in ("Muster-Agent", "Muster-Image-Digest", "Analytics-Version")]
            self._db.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)", (key, task, fence, *who))
            rows = ((record["key"], json.dumps(record, sort_keys=True)) for record in records)
            self._db.executemany("INSERT INTO records VALUES (?, ?)", rows)
            return "stored"

    def _newest_fence(self, task: str) -> int:
        row = self._db.execute("SELECT fence FROM fences WHERE task = ?", (task,)).fetchone()
        return row[0] if row else 0

    def report(self) -> dict:
        with self._lock:
            total, distinct = self._db.execute("SELECT count(*), count(DISTINCT key) FROM records").fetchone()
            return {
                "records": total,
                "distinct": distinct,
                "fingerprint": fingerprint(body for (body,) in self._db.execute("SELECT body FROM records")),
                "batches": self._db.execute("SELECT count(DISTINCT task) FROM chunks").fetchone()[0],
                "batches_by_digest": self._batches_by("digest"),
                "batches_by_version": self._batches_by("version"),
                "batches_by_agent": self._batches_by("agent"),
                "known_chunks": self._known,
                "refused_chunks": self._refused,
            }

    def _batches_by(self, column: str) -> dict[str, int]:
        query = f"SELECT {column}, count(DISTINCT task) FROM chunks GROUP BY {column} ORDER BY min(rowid)"
        return dict(self._db.execute(query).fetchall())


class Pace:
    """Spreads work out so that at most `rate` records a second are taken."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait_for_turn(self, records: int) -> None:
        with self._lock:
            turn = max(time.monotonic(), self._free_at)
            self._free_at = turn + records / self._rate
        time.sleep(max(0.0, turn - time.monotonic()))


def fingerprint(bodies) -> str:
    """One word for a set of records, the same in any order; a lost, doubled or changed record changes it."""
    total = sum(int.from_bytes(hashlib.blake2b(body.encode(), digest_size=16).digest()) for body in bodies)
    return f"{total % 2**128:032x}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The head and the body of an answer leave in one packet, or the client waits for the second.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.pace.wait_for_turn(len(records))
        result = self.server.held.store(self.headers["Idempotency-Key"], self.headers, records)
        self._answer(409 if result == "stale_fence" else 200, json.dumps({"result": result}))

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "report":
            self._answer(200, json.dumps(self.server.held.report()))
        elif kind == "batches" and name.removesuffix(".csv").isdigit():
            self._answer(200, (self.server.batches / name).read_text())
        else:
            self._answer(404, "{}")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args) -> None:
        """A line for each request would bury what matters."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bind", required=True, help="address to listen on; the port is any free one")
    parser.add_argument("--data-dir", required=True, type=pathlib.Path)
    parser.add_argument("--rate", type=int, default=15_000, help="records taken in a second")
    args = parser.parse_args()
    server = ThreadingHTTPServer((args.bind, 0), Handler)
    server.daemon_threads = True
    server.held = Held(str(args.data_dir / "crm.sqlite"))
    server.pace = Pace(args.rate)
    server.batches = args.data_dir / "batches"
    address = args.data_dir / "crm.address"
    address.with_suffix(".new").write_text(f"{args.bind}:{server.server_port}")
    os.rename(address.with_suffix(".new"), address)
    server.serve_forever()


if __name__ == "__main__":
    main()
