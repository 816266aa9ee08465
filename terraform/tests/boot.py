"""Inside the namespaces of hosts.py: boots a coordinator and two workers, starts their daemons, looks at
the fleet. Prints one JSON object for each check."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse

from chroot_host import Host, mount
from daemon import Daemon
from units import read_environment

DOWNLOAD_PORT = 8099


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    address = urllib.parse.urlsplit(spec["user_data"]["address"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{address.hostname}/32", "dev", "lo"], check=True)
    served = os.path.join(spec["directory"], "served")
    os.mkdir(served)
    shutil.copy(spec["artefact"]["path"], os.path.join(served, "muster"))
    serve(served)

    guard(spec)
    coordinator = boot(spec, "coordinator", 0)
    workers = [boot(spec, "agent", index) for index in range(2)]
    check_coordinator(coordinator)
    for worker in workers:
        check_worker(worker, spec["user_data"]["address"])
    check_tampered(spec, os.path.join(served, "muster"))
    join(spec, coordinator, workers)


def say(name, result, detail=""):
    print(json.dumps({"name": name, "result": result, "detail": str(detail)}), flush=True)


def check(name, condition, detail=""):
    say(name, "ok" if condition else "fail", detail)
    return bool(condition)


def serve(directory):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", DOWNLOAD_PORT), functools.partial(Quiet, directory=directory)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()


def boot(spec, kind, index):
    described = spec["user_data"][kind][index]
    host = Host(spec["tree"], spec["directory"], described["instance"], described["text"])
    if kind == "coordinator":
        host.attach_disk(spec["directory"], spec["user_data"]["volume"])
    began = time.monotonic()
    output = host.boot()
    seconds = time.monotonic() - began
    errors = host.boot_errors()
    check(
        f"{kind} {host.instance}: cloud-init ran the user data to its end ({seconds:.1f} s)",
        not errors and "muster install: done" in output,
        "\n".join([output[-3000:], *errors]),
    )
    schema = host.run("cloud-init", "schema", "--config-file", "/var/lib/cloud/seed/nocloud/user-data")
    check(
        f"{kind} {host.instance}: the user data is valid for cloud-init",
        schema.returncode == 0,
        schema.stdout,
    )
    return host


def check_common(host, kind):
    name = f"{kind} {host.instance}"
    unit = f"muster-{kind}.service"
    check(
        f"{name}: muster is installed, nothing half downloaded",
        host.run("/usr/local/bin/muster", "--version").returncode == 0
        and os.listdir(host.path("usr/local/bin")) == ["muster"],
        os.listdir(host.path("usr/local/bin")),
    )
    calls = host.log()
    wanted = [
        "systemctl daemon-reload",
        f"systemctl enable prometheus-node-exporter.service {unit}",
        f"systemctl start --no-block {unit}",
    ]
    check(
        f"{name}: the units are enabled, then started",
        [call for call in calls if call in wanted] == wanted,
        calls,
    )
    verified = host.run("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{unit}")
    complaints = [line for line in verified.stdout.splitlines() if "muster" in line]
    check(
        f"{name}: systemd-analyze verify accepts its unit",
        verified.returncode == 0 and not complaints,
        verified.stdout,
    )


def check_coordinator(host):
    check_common(host, "coordinator")
    mounted = host.run(
        "findmnt", "--noheadings", "--output", "FSTYPE", "/var/lib/muster-coordinator"
    ).stdout.strip()
    check("coordinator: the empty disk of the store was formatted and mounted", mounted == "ext4", mounted)
    entry = [line for line in host.read("etc/fstab").splitlines() if "muster-coordinator" in line]
    # A second run must find the file system and leave what is on it.
    host.write("var/lib/muster-coordinator/kept", "yes")
    again = host.run("sh", "-c", install_command(host))
    after = [line for line in host.read("etc/fstab").splitlines() if "muster-coordinator" in line]
    check(
        "coordinator: the install can run again; the store is untouched",
        again.returncode == 0
        and host.exists("var/lib/muster-coordinator/kept")
        and entry == after
        and len(after) == 1,
        again.stdout,
    )


def install_command(host):
    """The script that cloud-init made of runcmd."""
    return host.read(f"var/lib/cloud/instances/{host.instance}/scripts/runcmd")


def check_worker(host, address):
    check_common(host, "agent")
    found = read_environment(host.path("etc/muster/agent.env"))
    check(
        f"agent {host.instance}: its settings name the coordinator, the pool and itself",
        found
        == {
            "MUSTER_AGENT_COORDINATOR": address,
            "MUSTER_AGENT_POOL": "default",
            "MUSTER_AGENT_NAME": host.instance,
        },
        found,
    )
    engine = json.loads(host.read("etc/docker/daemon.json"))
    check(
        f"agent {host.instance}: the engine keeps containers over a restart, and bounds their logs",
        engine["live-restore"] is True and engine["log-opts"].keys() == {"max-file", "max-size"},
        engine,
    )
    calls = host.log()
    restart, start = (
        calls.index("systemctl restart docker.service"),
        calls.index("systemctl start --no-block muster-agent.service"),
    )
    check(
        f"agent {host.instance}: the engine has its settings before the agent starts",
        calls.index("systemctl daemon-reload") < restart < start,
        calls,
    )


def check_tampered(spec, path):
    """Other bytes at the same address: nothing is installed and nothing is started."""
    with open(path, "ab") as file:
        file.write(b"\n")
    host = Host(spec["tree"], spec["directory"], "i-tampered", spec["user_data"]["agent"][0]["text"])
    output = host.boot()
    calls = [call for call in host.log() if call.startswith("systemctl")]
    check(
        "a binary with another checksum is not installed, and no agent starts",
        os.listdir(host.path("usr/local/bin")) == []
        and calls == []
        and "not installed" in output
        and host.boot_errors(),
        output[-3000:],
    )


def guard(spec):
    """The engine's drop-in, twice, on a chain like the engine's."""
    name = "tasks cannot reach the metadata service: one rule, however often the engine starts"
    if not shutil.which("iptables"):
        say(name, "skip", "there is no iptables; apt-get install iptables")
        return
    text = spec["user_data"]["agent"][0]["text"]
    command = re.search(r"ExecStartPost=/bin/sh -c '([^']+)'", text).group(1)
    subprocess.run(["iptables", "-N", "DOCKER-USER"], check=True)
    for _ in range(2):
        subprocess.run(["sh", "-c", command], check=True)
    rules = subprocess.run(
        ["iptables", "-S", "DOCKER-USER"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    check(name, rules == ["-N DOCKER-USER", "-A DOCKER-USER -d 169.254.0.0/16 -j DROP"], rules)


def join(spec, coordinator, workers):
    """Starts the daemons from their units and waits for both agents in the coordinator's list."""
    name = "the agents that the hosts start join the coordinator"
    if not spec["artefact"]["real"]:
        check(
            name,
            False,
            f"there is no muster binary at {spec['artefact']['source']}: build it, or set MUSTER_BIN",
        )
        return
    if not spec["engine"]:
        say(name, "skip", "no container engine listens on /run/docker.sock")
        return
    daemons = [Daemon(coordinator, "muster-coordinator.service")]
    ready = [daemons[0].await_ready(30)]
    for worker in workers:
        worker.write("run/docker.sock", "")
        mount("--bind", spec["engine"], worker.path("run/docker.sock"))
        daemons.append(Daemon(worker, "muster-agent.service"))
    ready += [daemon.await_ready(30) for daemon in daemons[1:]]
    logs = "\n".join(daemon.output()[-2000:] for daemon in daemons)
    check("coordinator and agents tell systemd that they are ready", all(ready), f"{ready}\n{logs}")
    wanted = {worker.instance: "online" for worker in workers}
    found = await_fleet(workers[0], spec["user_data"]["address"], wanted)
    check(name, found == wanted, f"{found}\n{logs}")
    codes = [daemon.stop() for daemon in reversed(daemons)]
    check(
        "TERM to the main process ends each daemon with exit code 0", codes == [0, 0, 0], f"{codes}\n{logs}"
    )


def await_fleet(host, address, wanted):
    deadline = time.monotonic() + 30
    found = None
    while time.monotonic() < deadline:
        listed = host.run(
            "env", f"MUSTER_ADDR={address}", "/usr/local/bin/muster", "agent", "list", "-o", "json"
        )
        try:
            found = {agent["id"]: agent["state"] for agent in json.loads(listed.stdout)["agents"]}
        except (ValueError, KeyError):
            found = listed.stdout
        if found == wanted:
            break
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()
