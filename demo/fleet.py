"""The processes of the demo: each a separate one, each with its own log and data directory."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from engine import docker

REGISTRY_CONFIG = """
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: "{address}"}}
notifications:
  endpoints:
    - name: muster
      url: {webhook}
      timeout: 2s
      threshold: 3
      backoff: 1s
"""


def environment(**more: str) -> dict[str, str]:
    """Without the settings of whoever runs the demo: they are not the demo's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return {**kept, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_true(what: str, seconds: float, predicate):
    """Calls `predicate` until it answers something true, and answers that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = predicate()
        if answer:
            return answer
        time.sleep(0.05)
    raise SystemExit(f"demo: {what} did not happen within {seconds:.0f} s")


class Daemon:
    """One process, known by its pid and the moment it started."""

    def __init__(self, name: str, command: list[str], directory: pathlib.Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        # A group of its own: Ctrl-C reaches only the demo, which then stops its daemons in order.
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment(**env), start_new_session=True
            )
        self._started = self._start_time()

    def _start_time(self) -> str | None:
        """In ticks since boot; a process that took over the pid would have another one."""
        try:
            stat = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text()
        except FileNotFoundError:
            return None
        return stat.rpartition(")")[2].split()[19]

    def is_unchanged(self) -> bool:
        return self._process.poll() is None and self._start_time() == self._started

    def must_run(self) -> None:
        if self._process.poll() is not None:
            raise SystemExit(f"demo: {self.name} ended with {self._process.returncode}:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Fleet:
    """A push gateway, a registry, the CRM, a coordinator and its agents."""

    def __init__(self, muster: str, directory: pathlib.Path) -> None:
        self.muster = muster
        self.directory = directory
        self.daemons: list[Daemon] = []
        self.gateway = f"127.0.0.1:{free_port()}"
        self.registry = f"127.0.0.1:{free_port()}"

    def _start(self, name: str, command: list[str], **env: str) -> Daemon:
        daemon = Daemon(name, command, self.directory, env)
        self.daemons.append(daemon)
        return daemon

    def _await_port(self, daemon: Daemon, address: str) -> None:
        def answers():
            daemon.must_run()
            host, port = address.split(":")
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        await_true(f"{daemon.name} listening on {address}", 20, answers)

    def _await_file(self, daemon: Daemon, file: pathlib.Path) -> str:
        def written():
            daemon.must_run()
            return file.exists() and file.read_text()

        return await_true(f"{daemon.name} writing {file}", 30, written)

    def start_gateway(self) -> None:
        daemon = self._start("gateway", ["prometheus-pushgateway", f"--web.listen-address={self.gateway}"])
        self._await_port(daemon, self.gateway)

    def start_crm(self, bind: str) -> str:
        """Answers the CRM's address."""
        script = str(pathlib.Path(__file__).with_name("receiver.py"))
        data = str(self.directory)
        daemon = self._start("crm", [sys.executable, "-B", script, "--bind", bind, "--data-dir", data])
        return self._await_file(daemon, self.directory / "crm.address")

    def start_coordinator(self) -> None:
        data = self.directory / "coordinator"
        listen = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        daemon = self._start(
            "coordinator",
            [self.muster, "coordinator", "--data-dir", str(data), *listen],
            MUSTER_COORDINATOR_PUSHGATEWAY_URL=f"http://{self.gateway}",
            # No poll during the demo: only the registry's notification can move the channel.
            MUSTER_COORDINATOR_REGISTRY_POLL="1h",
        )
        addresses = json.loads(self._await_file(daemon, data / "addresses.json"))
        self.grpc, self.http = f"http://{addresses['grpc']}", f"http://{addresses['http']}"

    def start_registry(self) -> None:
        config = self.directory / "registry.yml"
        webhook = f"{self.http}/webhook/distribution"
        config.write_text(
            REGISTRY_CONFIG.format(data=self.directory / "registry", address=self.registry, webhook=webhook)
        )
        daemon = self._start("registry", ["docker-registry", "serve", str(config)])
        self._await_port(daemon, self.registry)

    def start_agent(self, name: str) -> None:
        data = str(self.directory / name)
        capacity = ["--places", "2", "--cpus", "2", "--memory", "2g"]
        command = [self.muster, "agent", "--coordinator", self.grpc, "--name", name, "--data-dir", data, *capacity]
        self._start(name, command)

    def call(self, *args: str) -> str:
        """Runs a client command and answers its standard output."""
        env = environment(MUSTER_ADDR=self.grpc)
        done = subprocess.run([self.muster, *args], env=env, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"demo: muster {' '.join(args)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def ask(self, *args: str) -> dict:
        return json.loads(self.call(*args, "-o", "json"))

    def stop(self) -> None:
        """Agents first: they say good-bye to a coordinator that still listens."""
        for daemon in reversed(self.daemons):
            daemon.stop()
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        cluster = getattr(self, "cluster", None)
        if cluster is None:
            return
        label = f"label=muster.cluster={cluster}"
        if left := docker("ps", "-aq", "--filter", label).split():
            docker("rm", "-f", *left)
        for network in docker("network", "ls", "-q", "--filter", label).split():
            docker("network", "rm", network)
