"""A small Debian with cloud-init and systemd's tools, made once by debootstrap and kept in the cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import threading

from report import Skip

SUITE = "bookworm"
# What Debian's cloud images have and the boot needs. curl is there, as the stand-in for apt installs nothing.
PACKAGES = ["ca-certificates", "cloud-init", "curl", "e2fsprogs", "mount", "systemd"]


class Pending:
    """Makes the tree beside other work."""

    def __init__(self, report):
        self.directory = None
        self.missing = None
        self.thread = threading.Thread(target=self._make, args=(report,), daemon=True)
        self.thread.start()

    def _make(self, report):
        try:
            self.directory = ensure()
        except Skip as missing:
            self.missing = str(missing)
        except Exception as error:
            report.fail("a Debian tree for the hosts", error)

    def wait(self):
        self.thread.join()

    def path(self):
        """Waits for the tree."""
        self.wait()
        if self.directory is None:
            raise Skip(self.missing or "no Debian tree")
        return self.directory


def ensure():
    if os.geteuid() != 0:
        raise Skip("running a host's user data in a Debian tree needs root")
    cache = os.environ["MUSTER_TEST_CACHE"]
    os.makedirs(cache, exist_ok=True)
    recipe = hashlib.sha256(" ".join([SUITE, *PACKAGES]).encode()).hexdigest()[:12]
    directory = os.path.join(cache, f"cloud-debian-{SUITE}-{recipe}")
    with open(f"{directory}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(directory):
            if not shutil.which("debootstrap"):
                raise Skip("there is no debootstrap; apt-get install debootstrap")
            build(directory)
    return directory


def build(directory):
    unfinished = f"{directory}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    log = f"{directory}.log"
    # debootstrap does not resolve virtual packages, so cloud-init is left to apt.
    steps = [
        ["debootstrap", "--variant=minbase", SUITE, unfinished, *mirror()],
        ["chroot", unfinished, "apt-get", "-q", "update"],
        ["chroot", unfinished, "apt-get", "-q", "-y", "--no-install-recommends", "install", *PACKAGES],
        ["chroot", unfinished, "apt-get", "clean"],
    ]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    with open(log, "wb") as output:
        for step in steps:
            done = subprocess.run(
                step, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            if done.returncode != 0:
                raise Skip(f"a Debian tree could not be made ({' '.join(step[:2])} failed); its log: {log}")
    os.rename(unfinished, directory)


def mirror():
    """The mirror this machine's apt uses for Debian, or debootstrap's own choice."""
    command = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(ORIGIN)",
        "Created-By: Packages",
    ]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return []
    for uri, codename, origin in (line.split(" ", 2) for line in lines if line.count(" ") >= 2):
        if codename == SUITE and origin == "Debian":
            return [uri]
    return []
