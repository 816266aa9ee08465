"""Reads systemd units, and checks the ones in packaging/systemd."""

import os
import shlex
import shutil
import subprocess

from report import Skip

UNITS = ["muster-agent.service", "muster-coordinator.service"]


class Unit:
    """The settings of one unit file: (section, key) to the list of its values."""

    def __init__(self, path):
        self.values = {}
        section = None
        with open(path, encoding="utf-8") as file:
            for line in file.read().replace("\\\n", " ").splitlines():
                line = line.strip()
                if not line or line[0] in "#;":
                    continue
                if line[0] == "[":
                    section = line.strip("[]")
                    continue
                key, _, value = line.partition("=")
                self.values.setdefault((section, key.strip()), []).append(value.strip())

    def all(self, section, key):
        return self.values.get((section, key), [])

    def one(self, section, key):
        found = self.all(section, key)
        return found[-1] if found else None

    def command(self):
        return shlex.split(self.one("Service", "ExecStart"))

    def environment(self, root):
        """What systemd would set: Environment=, then the files, which win. The files are below `root`."""
        found = {}
        for line in self.all("Service", "Environment"):
            found.update(word.split("=", 1) for word in shlex.split(line))
        for path in self.all("Service", "EnvironmentFile"):
            found.update(read_environment(root + path.lstrip("-"), optional=path.startswith("-")))
        return found


def read_environment(path, optional=False):
    """An environment file without quotes and escapes, which ours never have."""
    if optional and not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return dict(line.split("=", 1) for line in lines if line and line[0] not in "#;")


def check(report, root):
    """What the units promise, and that systemd understands every line of them."""
    directory = os.path.join(root, "packaging", "systemd")
    agent, coordinator = (Unit(os.path.join(directory, unit)) for unit in UNITS)
    for name, unit in (("agent", agent), ("coordinator", coordinator)):
        wanted = ("notify", "always", "2", "multi-user.target")
        found = (
            unit.one("Service", "Type"),
            unit.one("Service", "Restart"),
            unit.one("Service", "RestartPreventExitStatus"),
            unit.one("Install", "WantedBy"),
        )
        report.equal(
            f"unit of the {name}: notifies, is started again unless its settings are wrong", found, wanted
        )
        report.check(
            f"unit of the {name}: no watchdog, which muster does not feed",
            not unit.one("Service", "WatchdogSec"),
        )
    report.equal(
        "unit of the agent: stopping it leaves its containers running",
        agent.one("Service", "KillMode"),
        "process",
    )
    report.check(
        "unit of the agent: the engine's end is not the agent's",
        "docker.service" in agent.one("Unit", "Wants") and not agent.all("Unit", "Requires"),
    )
    report.equal(
        "unit of the coordinator: not root, no capability",
        (coordinator.one("Service", "User"), coordinator.one("Service", "CapabilityBoundingSet")),
        ("muster", ""),
    )
    report.run("systemd-analyze verify", verify, report, directory)


def verify(report, directory):
    """With a stand-in for the binary, in a mount namespace of its own, as units name absolute paths."""
    if not shutil.which("systemd-analyze"):
        raise Skip("there is no systemd-analyze; apt-get install systemd")
    if os.geteuid() != 0:
        raise Skip("needs root")
    paths = [os.path.join(directory, unit) for unit in UNITS]
    script = (
        "mount -t tmpfs none /usr/local/bin && cp /bin/true /usr/local/bin/muster"
        ' && exec systemd-analyze verify --man=no "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *paths], capture_output=True, text=True, check=False
    )
    # An unknown setting is only a warning for systemd; here any word about our units is a failure.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "muster" in line]
    report.check(
        "systemd-analyze verify accepts both units without a word",
        done.returncode == 0 and not complaints,
        done.stdout + done.stderr,
    )
