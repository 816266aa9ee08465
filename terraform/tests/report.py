"""How the checks speak: one line each, and a count at the end."""

import sys
import threading
import time
import traceback


class Skip(Exception):
    """An outside part is missing; the message says which."""


class Report:
    """Collects results from several threads."""

    def __init__(self):
        self.began = time.monotonic()
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = 0

    def ok(self, name):
        with self.lock:
            self.passed += 1
            self._say(f"ok       {name}")

    def fail(self, name, detail=""):
        with self.lock:
            self.failed += 1
            self._say(f"FAILED   {name}")
            for line in str(detail).rstrip().splitlines()[-40:]:
                print(f"         | {line}", flush=True)

    def skip(self, name, reason):
        with self.lock:
            self.skipped += 1
            self._say(f"SKIPPED: {name}: {reason}")

    def check(self, name, condition, detail=""):
        """Counts one check; returns whether it held."""
        if condition:
            self.ok(name)
        else:
            self.fail(name, detail)
        return bool(condition)

    def equal(self, name, found, wanted):
        return self.check(name, found == wanted, f"found  {found}\nwanted {wanted}")

    def run(self, name, part, *arguments):
        """Runs a group of checks; an exception fails or skips the rest of the group only."""
        try:
            return part(*arguments)
        except Skip as missing:
            self.skip(name, missing)
        except Exception:
            self.fail(f"{name}: the test itself broke off", traceback.format_exc())
        return None

    def finish(self, strict):
        """Prints the count; returns the exit code."""
        seconds = time.monotonic() - self.began
        self._say(f"took {seconds:.0f} s")
        self._say(
            f"terraform: {self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        )
        return 1 if self.failed or (strict and self.skipped) else 0

    @staticmethod
    def _say(line):
        print(line, flush=True)
        sys.stdout.flush()
