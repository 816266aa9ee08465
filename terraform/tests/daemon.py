"""Starts what a unit file says, the way systemd would, as far as that goes without systemd."""

import os
import select
import signal
import socket
import subprocess
import time

from units import Unit


class Daemon:
    """The main process of one unit on one host."""

    def __init__(self, host, name):
        self.host = host
        self.name = name
        self.unit = Unit(host.path("etc/systemd/system", name))
        user = self.unit.one("Service", "User") or "root"
        self.uid, self.gid = ids_of(host, user)
        self._make_state_directory()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(host.path("run", f"{name}.notify"))
        os.chmod(host.path("run", f"{name}.notify"), 0o666)
        self.log = open(host.path("run", f"{name}.log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            ["chroot", host.root, *self._privileges(), *self.unit.command()],
            env=self._environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def await_ready(self, seconds):
        """Whether READY=1 came in time: the promise of Type=notify."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.process.poll() is None:
            readable, _, _ = select.select([self.notify], [], [], min(left, 0.2))
            if readable and b"READY=1" in self.notify.recv(4096):
                return True
        return False

    def stop(self):
        """As KillMode=process: TERM to the main process and to nobody else. Returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def output(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def _make_state_directory(self):
        directory = self.unit.one("Service", "StateDirectory")
        if directory:
            path = self.host.path("var/lib", directory)
            os.makedirs(path, exist_ok=True)
            os.chown(path, self.uid, self.gid)
            os.chmod(path, int(self.unit.one("Service", "StateDirectoryMode") or "755", 8))

    def _environment(self):
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "NOTIFY_SOCKET": f"/run/{self.name}.notify",
            **self.unit.environment(self.host.root),
        }

    def _privileges(self):
        """User, capabilities and no-new-privileges of the unit; the rest of its hardening needs systemd."""
        command = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        bound = self.unit.one("Service", "CapabilityBoundingSet")
        if bound is not None:
            kept = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in bound.split())
            command += [f"--bounding-set=-all{kept}", "--inh-caps=-all"]
        if self.unit.one("Service", "NoNewPrivileges") == "yes":
            command += ["--no-new-privs"]
        return [*command, "--"]


def ids_of(host, user):
    for line in host.read("etc/passwd").splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[2]), int(fields[3])
    raise RuntimeError(f"{host.instance} has no user {user}")
