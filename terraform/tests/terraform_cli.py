"""Terraform on a copy of the tree, with the provider from a mirror on disk."""

import glob
import json
import os
import shutil
import signal
import subprocess

# Seconds for one command; the longest takes about 50.
PATIENCE = 300

# Where people and packages put provider mirrors; the registry's name is the directory's.
MIRRORS = [
    "{home}/.terraform.d/plugins",
    "{home}/.local/share/terraform/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
    "/srv/*",
    "/usr/local/*",
    "/var/lib/*",
]


def find_mirror():
    """A directory that holds the AWS provider, or None."""
    named = os.environ.get("MUSTER_TF_PLUGINS") or os.environ.get("TF_PLUGIN_CACHE_DIR")
    home = os.path.expanduser("~")
    patterns = [named] if named else [pattern.format(home=home) for pattern in MIRRORS]
    for pattern in patterns:
        for directory in sorted(glob.glob(pattern)):
            if glob.glob(f"{directory}/registry.terraform.io/hashicorp/aws/5.*"):
                return directory
    return None


class Terraform:
    """Runs in one directory of the copy."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.environment = environment

    def run(self, *arguments, ok=(0,)):
        """The finished process; raises unless its exit code is one of `ok`."""
        process = subprocess.Popen(
            ["terraform", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            # The provider is a process of its own, in the same session.
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            errors += f"no end after {PATIENCE} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        done = subprocess.CompletedProcess(arguments, process.returncode, output, errors)
        if done.returncode not in ok:
            told = done.stdout[-6000:] + done.stderr[-6000:]
            raise RuntimeError(f"terraform {' '.join(arguments)}: exit code {done.returncode}\n{told}")
        return done

    def json(self, *arguments):
        return json.loads(self.run(*arguments).stdout)

    def plan(self):
        """A plan, as Terraform shows it in JSON."""
        path = os.path.join(self.directory, "test.tfplan")
        self.run("plan", "-input=false", "-no-color", f"-out={path}")
        return self.json("show", "-json", path)


def changes(plan):
    """What the plan would do: address to change, without what stays as it is."""
    return {
        change["address"]: change["change"]
        for change in plan.get("resource_changes", [])
        if change["mode"] == "managed" and change["change"]["actions"] != ["no-op"]
    }


def changed_keys(change):
    """The settings that differ."""
    before, after = without_empty(change["before"]), without_empty(change["after"])
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def without_empty(value):
    """Providers mix absent, null and empty; none of them says anything."""
    if isinstance(value, dict):
        plain = {key: without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in plain.items() if inner not in (None, "", [], {})}
    if isinstance(value, list):
        return [inner for inner in map(without_empty, value) if inner not in (None, "", [], {})]
    return value


def resources(plan):
    """Address to values of all there was when the plan was made, as the provider read it then."""
    found = {}

    def collect(module):
        for resource in module.get("resources", []):
            found[resource["address"]] = resource["values"]
        for child in module.get("child_modules", []):
            collect(child)

    collect(plan["prior_state"]["values"]["root_module"])
    return found


def prepare(scratch, root, environment):
    """Copies the tree and writes Terraform's own settings; returns the copy and the environment."""
    copy = os.path.join(scratch, "tree")
    for part in ("terraform", "packaging"):
        shutil.copytree(
            os.path.join(root, part),
            os.path.join(copy, part),
            ignore=shutil.ignore_patterns(
                ".terraform", "*.tfstate*", "site.auto.tfvars", ".terraform.lock.hcl"
            ),
        )
    mirror = find_mirror()
    settings = os.path.join(scratch, "terraform.rc")
    with open(settings, "w", encoding="utf-8") as file:
        file.write("disable_checkpoint = true\n")
        if mirror:
            file.write(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
        else:
            cache = os.path.join(os.environ["MUSTER_TEST_CACHE"], "terraform-plugins")
            os.makedirs(cache, exist_ok=True)
            file.write(f'plugin_cache_dir = "{cache}"\n')
    return copy, environment | {
        "TF_CLI_CONFIG_FILE": settings,
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "HOME": scratch,
    }
