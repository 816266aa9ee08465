"""One host: an overlay over the Debian tree, stand-ins for what needs a booted machine, real cloud-init."""

import os
import re
import stat
import subprocess
import textwrap

PATH = "/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Only the two modules that our user data uses: the others would grow disks and make users.
SETTINGS = """\
datasource_list: [NoCloud]
network: {config: disabled}
cloud_init_modules: [write_files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts_user]
"""

# The real apt-get says whether it could install this; then the units that the packages bring appear.
APT_GET = """\
#!/bin/sh
echo "apt-get $*" >>/stand-ins/log
[ "$1" = install ] || exit 0
/usr/bin/apt-get --simulate "$@" >/stand-ins/apt.log 2>&1 || { cat /stand-ins/apt.log; exit 100; }
for word; do
    case $word in
    docker.io) unit=docker ;;
    prometheus-node-exporter) unit=prometheus-node-exporter ;;
    *) continue ;;
    esac
    printf '[Service]\\nType=notify\\nExecStart=/bin/true\\n' >"/usr/lib/systemd/system/$unit.service"
done
"""

# The install's patience is not tested; without it a failure shows at once.
SLEEP = """\
#!/bin/sh
"""

SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >>/stand-ins/log
"""


class Host:
    """Mounted below `directory`; everything it writes is in memory and gone with the mount namespace."""

    def __init__(self, tree, directory, instance, user_data):
        self.instance = instance
        self.root = os.path.join(directory, instance)
        layers = os.path.join(directory, f"{instance}.layers")
        os.mkdir(self.root)
        os.mkdir(layers)
        mount("-t", "tmpfs", "none", layers)
        upper, work = os.path.join(layers, "upper"), os.path.join(layers, "work")
        os.mkdir(upper)
        os.mkdir(work)
        mount("-t", "overlay", "none", "-o", f"lowerdir={tree},upperdir={upper},workdir={work}", self.root)
        mount("-t", "proc", "none", self.path("proc"))
        mount("-t", "tmpfs", "none", self.path("run"))
        self._make_devices()
        self._write_stand_ins()
        self._seed(user_data)

    def path(self, *parts):
        return os.path.join(self.root, *(part.lstrip("/") for part in parts))

    def read(self, path):
        with open(self.path(path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def exists(self, path):
        return os.path.lexists(self.path(path))

    def write(self, path, text, mode=0o644):
        full = self.path(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(full, mode)

    def run(self, *command, timeout=120):
        return subprocess.run(
            ["chroot", self.root, *command],
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def attach_disk(self, directory, volume):
        """An empty disk under the name that EC2's udev rules give a volume."""
        image = os.path.join(directory, f"{self.instance}.disk")
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        device = subprocess.run(
            ["losetup", "--find", "--show", image], capture_output=True, text=True, check=True
        ).stdout.strip()
        number = os.stat(device).st_rdev
        os.mknod(self.path(device), stat.S_IFBLK | 0o600, number)
        os.makedirs(self.path("dev/disk/by-id"))
        os.symlink(
            device, self.path("dev/disk/by-id", f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}")
        )

    def boot(self):
        """The four stages that systemd would start; returns what they printed."""
        stages = (["init", "--local"], ["init"], ["modules", "--mode=config"], ["modules", "--mode=final"])
        return "".join(self.run("cloud-init", *stage).stdout for stage in stages)

    def log(self):
        """The calls of the stand-ins, in order."""
        return self.read("stand-ins/log").splitlines() if self.exists("stand-ins/log") else []

    def boot_errors(self):
        log = self.read("var/log/cloud-init.log")
        return [line for line in log.splitlines() if re.search(r" - \S+\[(ERROR|CRITICAL|WARNING)\]", line)]

    def _make_devices(self):
        mount("-t", "tmpfs", "-o", "mode=755", "none", self.path("dev"))
        for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
            os.mknod(self.path("dev", name), stat.S_IFCHR | 0o666, os.makedev(1, minor))
            os.chmod(self.path("dev", name), 0o666)
        os.symlink("/proc/self/fd", self.path("dev/fd"))

    def _write_stand_ins(self):
        self.write("stand-ins/apt-get", APT_GET, 0o755)
        self.write("stand-ins/sleep", SLEEP, 0o755)
        self.write("stand-ins/systemctl", SYSTEMCTL, 0o755)

    def _seed(self, user_data):
        self.write("etc/cloud/cloud.cfg.d/99-test.cfg", SETTINGS)
        self.write("var/lib/cloud/seed/nocloud/user-data", user_data)
        self.write(
            "var/lib/cloud/seed/nocloud/meta-data",
            textwrap.dedent(f"""\
            instance-id: {self.instance}
            local-hostname: test
        """),
        )


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)
