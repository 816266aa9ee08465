"""What the demo asks of the container engine: images, and a record of what every container did."""

import collections
import json
import os
import pathlib
import subprocess

# The classic builder is in every engine; the other one is a plug-in that Debian does not have.
CLASSIC = {**os.environ, "DOCKER_BUILDKIT": "0"}


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], env=CLASSIC, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"demo: docker {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout.strip()


def bridge_address() -> str:
    """Where containers on any bridge network reach this machine."""
    name = docker("network", "inspect", "bridge", "-f", '{{index .Options "com.docker.network.bridge.name"}}')
    shown = subprocess.run(["ip", "-json", "-4", "addr", "show", "dev", name], capture_output=True, check=True)
    return json.loads(shown.stdout)[0]["addr_info"][0]["local"]


def build_and_push(image: str, base: str, version: int, context: pathlib.Path) -> str:
    """Builds and pushes one version of the ETL image; answers its digest at the registry."""
    args = ("--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version}")
    docker("build", "-q", *args, "-t", image, str(context))
    docker("push", "-q", image)
    repository = image.rsplit(":", 1)[0]
    digests = json.loads(docker("image", "inspect", "-f", "{{json .RepoDigests}}", image))
    return next(d for d in digests if d.startswith(repository + "@")).partition("@")[2]


def remove_images(repository: str) -> None:
    """Removes what was built or pulled under the repository; the cached base has another name."""
    listed = docker("images", "-a", "--digests", "--format", "{{.Repository}} {{.ID}}").splitlines()
    ids = {line.split()[1] for line in listed if line.split()[0] == repository}
    if ids:
        subprocess.run(["docker", "rmi", "-f", *ids], capture_output=True)


class Containers:
    """Follows the engine's events from the start, because the engine itself forgets all but the last few."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file
        command = ["docker", "events", "--filter", "type=container", "--filter", "label=muster.task"]
        with file.open("w") as out:
            self._process = subprocess.Popen([*command, "--format", "{{json .}}"], stdout=out)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def of(self, job: str) -> dict[str, collections.Counter]:
        """For each container of the job, how often it was started, restarted, and so on."""
        seen: dict[str, collections.Counter] = {}
        for line in self._file.read_text().splitlines():
            event = json.loads(line)
            labels = event["Actor"]["Attributes"]
            if labels["muster.task"].partition(".")[0].endswith(job[-8:]):
                seen.setdefault(labels["name"], collections.Counter())[event["Action"]] += 1
        return seen
