"""Entry of scripts/test-terraform: what is run, in which order, and what is left behind (nothing)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import debian_tree
import units
from report import Report, Skip

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    strict = "--strict" in sys.argv[1:]
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    scratch = tempfile.mkdtemp(prefix="muster-terraform-")
    try:
        units.check(report, ROOT)
        # The tree takes a minute to make, once; Terraform works meanwhile.
        tree = debian_tree.Pending(report)
        report.run("terraform", terraform, report, scratch, tree)
        tree.wait()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report.finish(strict)


def terraform(report, scratch, tree):
    try:
        from fake_aws import FakeAws
    except ImportError as missing:
        raise Skip(f"{missing}; run scripts/setup moto") from missing
    import terraform_cli

    if not shutil.which("terraform"):
        raise Skip("there is no terraform on PATH, and Debian has no package of it; install it by hand")
    aws = FakeAws(scratch)
    try:
        copy, environment = terraform_cli.prepare(scratch, ROOT, aws.environment())
        in_copy(report, scratch, aws, copy, environment, tree)
    finally:
        aws.stop()


def in_copy(report, scratch, aws, copy, environment, tree):
    import fleet
    import hosts

    run = fleet.Fleet(report, aws, copy, environment, artefact(scratch))
    report.check(*formatted(copy, environment))
    if report.run("terraform init", run.init_state) is None:
        return
    # Terraform's own tests and the boot of the hosts run beside the waiting that apply does.
    tests = threading.Thread(target=report.run, args=("terraform test", run.own_tests))
    tests.start()
    user_data = report.run("apply", run.create)
    if user_data:
        arguments = ("hosts", hosts.boot, report, scratch, tree, run.artefact, user_data)
        boot = threading.Thread(target=report.run, args=arguments)
        boot.start()
        report.run("scale", run.scale)
        report.run("upgrade", run.upgrade_plan)
        boot.join()
    tests.join()


def formatted(copy, environment):
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", "-no-color", os.path.join(copy, "terraform")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return "terraform fmt", done.returncode == 0, done.stdout + done.stderr


def artefact(scratch):
    """What the hosts will install: the muster binary, or a stand-in when there is none yet."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
    binary = os.environ.get("MUSTER_BIN") or os.path.join(target, "debug", "muster")
    path = os.path.join(scratch, "muster")
    if os.access(binary, os.X_OK):
        shutil.copy(binary, path)
        return {"path": path, "source": binary, "real": True}
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho muster stand-in\n")
    os.chmod(path, 0o755)
    return {"path": path, "source": binary, "real": False}


if __name__ == "__main__":
    sys.exit(main())
