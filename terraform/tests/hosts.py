"""Boots the hosts from the user data that the fake cloud holds, as far as that goes without systemd."""

import json
import os
import subprocess
import sys

from report import Skip

# Seconds for all hosts together; they take about 20.
PATIENCE = 300

SOCKETS = ["/run/docker.sock", "/var/run/docker.sock"]


def boot(report, scratch, tree, artefact, user_data):
    """Runs boot.py in namespaces of its own and counts what it found."""
    directory = os.path.join(scratch, "boot")
    os.mkdir(directory)
    spec = {
        "tree": tree.path(),
        "directory": directory,
        "artefact": artefact,
        "user_data": user_data,
        "engine": next((path for path in SOCKETS if os.path.exists(path)), None),
    }
    path = os.path.join(scratch, "boot.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(spec, file)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")
    # The network holds nothing but the coordinator's address; every process dies with the first one; no
    # mount outlives them; the hosts' names stay theirs.
    command = [
        "unshare",
        "--mount",
        "--net",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        sys.executable,
        "-B",
        script,
        path,
    ]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                output, errors = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                # With unshare its whole process namespace ends.
                process.kill()
                output, errors = process.communicate()
                errors += f"no end after {PATIENCE} s"
    finally:
        detach_disks(directory)
    counted = 0
    for line in output.splitlines():
        found = json.loads(line)
        counted += 1
        if found["result"] == "skip":
            report.skip(found["name"], found["detail"])
        else:
            report.check(found["name"], found["result"] == "ok", found["detail"])
    if process.returncode != 0:
        raise RuntimeError(f"boot.py: exit code {process.returncode}\n{errors}")
    if not counted:
        raise Skip("boot.py checked nothing")


def detach_disks(directory):
    """Loop devices are the only thing a namespace does not clean up."""
    for name in os.listdir(directory):
        if name.endswith(".disk"):
            listed = subprocess.run(
                [
                    "losetup",
                    "--noheadings",
                    "--output",
                    "NAME",
                    "--associated",
                    os.path.join(directory, name),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            for device in listed.stdout.split():
                subprocess.run(["losetup", "--detach", device], check=False)
