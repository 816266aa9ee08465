"""The example environment in the fake cloud: created, scaled by its one line, planned for an upgrade."""

import base64
import hashlib
import os
import re

from botocore.exceptions import ClientError
from fake_aws import REGION, inventory, running_workers
from report import Skip
from terraform_cli import Terraform, changed_keys, changes, find_mirror, resources

BUCKET = "muster-test-state"
KEY = "muster/example.tfstate"
GROUP = "module.workers.aws_autoscaling_group.this"
ADDRESS = "http://127.0.0.1:8099/muster"


class Fleet:
    """One copy of the example, and what it looked like after each step."""

    def __init__(self, report, aws, copy, environment, artefact):
        self.report = report
        self.aws = aws
        self.artefact = artefact
        self.bootstrap = Terraform(os.path.join(copy, "terraform", "bootstrap"), environment)
        self.example = Terraform(os.path.join(copy, "terraform", "environments", "example"), environment)
        self.group = None
        self.created = None
        with open(artefact["path"], "rb") as file:
            artefact["sha256"] = hashlib.sha256(file.read()).hexdigest()

    def init_state(self):
        """Makes the bucket with bootstrap/, and the example's backend in it."""
        self._write(self.bootstrap, "test_override.tf", 'provider "aws" {\n  s3_use_path_style = true\n}\n')
        try:
            self.bootstrap.run("init", "-input=false", "-no-color")
        except RuntimeError as failed:
            if not find_mirror():
                raise Skip(
                    f"no mirror of the AWS provider on this machine, and no way to fetch it: {failed}"
                ) from failed
            raise
        self.bootstrap.run("validate", "-no-color")
        self.bootstrap.run(
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            f"-var=bucket={BUCKET}",
            f"-var=region={REGION}",
        )
        self._check_bucket()
        self.example.run(
            "init",
            "-input=false",
            "-no-color",
            f"-backend-config=bucket={BUCKET}",
            f"-backend-config=region={REGION}",
            "-backend-config=use_path_style=true",
        )
        self.example.run("validate", "-no-color")
        self.report.ok("terraform init and validate: bootstrap and example, state in S3")
        return True

    def _check_bucket(self):
        s3 = self.aws.client("s3")
        blocked = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
        self.report.check(
            "the state's bucket: versions kept, encrypted, not public",
            s3.get_bucket_versioning(Bucket=BUCKET).get("Status") == "Enabled"
            and s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
            and all(blocked.values()),
            blocked,
        )
        refused = False
        try:
            s3.put_object(Bucket=BUCKET, Key="in-the-clear", Body=b"")
        except ClientError as error:
            refused = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        self.report.check("the state's bucket: refuses plain http", refused)
        # The fake cloud speaks nothing else, so the rule has to go for the rest of the test.
        s3.delete_bucket_policy(Bucket=BUCKET)

    def own_tests(self):
        done = self.example.run("test", "-no-color", ok=(0, 1))
        passed = re.search(r"(\d+) passed, 0 failed", done.stdout)
        self.report.check(
            f"terraform test: {passed.group(1) if passed else '?'} runs",
            done.returncode == 0 and passed,
            done.stdout + done.stderr,
        )

    def create(self):
        """Applies with two workers; returns the user data of the hosts, by daemon."""
        image = self.aws.client("ec2").describe_images()["Images"][0]["ImageId"]
        self._settings(image, self.artefact["sha256"])
        missing = self.example.run("plan", "-input=false", "-no-color", ok=(1,))
        self.report.check(
            "insecure_dev_network has no default: without it there is no plan",
            'variable "insecure_dev_network" is not set' in missing.stderr,
            missing.stderr,
        )
        self._append("site.auto.tfvars", "insecure_dev_network = true\n")
        self.example.run("apply", "-auto-approve", "-input=false", "-no-color")
        self.group = self.example.json("output", "-json", "workers")
        self.report.equal(
            "apply with worker_count = 2: instances", len(running_workers(self.aws, self.group)), 2
        )
        self.created = self._settled("a second plan changes nothing")
        self._check_remote_state()
        self._check_security_groups()
        return self._user_data()

    def _check_remote_state(self):
        s3 = self.aws.client("s3")
        size = s3.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"]
        local = os.path.join(self.example.directory, "terraform.tfstate")
        self.report.check("the state is in S3 and not on the disk", size > 1000 and not os.path.exists(local))
        s3.put_object(Bucket=BUCKET, Key=f"{KEY}.tflock", Body=b'{"ID":"somebody-else"}')
        done = self.example.run("plan", "-input=false", "-no-color", ok=(0, 1))
        s3.delete_object(Bucket=BUCKET, Key=f"{KEY}.tflock")
        self.report.check(
            "a lock that somebody else holds is respected",
            done.returncode == 1 and "Error acquiring the state lock" in done.stderr,
            done.stdout + done.stderr,
        )

    def _check_security_groups(self):
        found = self.aws.client("ec2").describe_security_groups()["SecurityGroups"]
        groups = {group["GroupName"]: group for group in found}
        workers, coordinator = groups[self.group], groups["muster-example-coordinator"]
        self.report.equal("workers: no inbound rule", workers["IpPermissions"], [])
        inbound = [
            (
                rule["IpProtocol"],
                rule["FromPort"],
                rule["ToPort"],
                [pair["GroupId"] for pair in rule["UserIdGroupPairs"]],
                rule["IpRanges"],
            )
            for rule in coordinator["IpPermissions"]
        ]
        self.report.equal(
            "coordinator: port 7380 from the workers, nothing else",
            inbound,
            [("tcp", 7380, 7380, [workers["GroupId"]], [])],
        )
        policies = [
            self.aws.client("iam").list_role_policies(RoleName=name)["PolicyNames"]
            + self.aws.client("iam").list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            for name in (self.group, "muster-example-coordinator")
        ]
        self.report.equal("the hosts' roles may do nothing", policies, [[], []])

    def _user_data(self):
        """As the instances have it: base64 in the fake cloud, text here."""
        ec2 = self.aws.client("ec2")
        coordinator = self.created["module.coordinator.aws_instance.this"]["id"]
        found = {}
        for name, instance in [
            ("coordinator", coordinator),
            *(("agent", i) for i in sorted(running_workers(self.aws, self.group))),
        ]:
            value = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"][
                "Value"
            ]
            found.setdefault(name, []).append(
                {"instance": instance, "text": base64.b64decode(value).decode()}
            )
        found["volume"] = self.created["module.coordinator.aws_ebs_volume.store"]["id"]
        found["address"] = self.example.json("output", "-json", "coordinator_address")
        largest = max(len(host["text"]) for name in ("coordinator", "agent") for host in found[name])
        self.report.check(f"user data fits in 16 KiB ({largest} bytes)", largest <= 16384)
        return found

    def scale(self):
        """Changes the one line, and looks at everything else."""
        before = inventory(self.aws)
        self._change_line("terraform.tfvars", r"(?m)^worker_count = 2$", "worker_count = 5")
        planned = changes(self.example.plan())
        actions = {address: change["actions"] for address, change in planned.items()}
        if not self.report.equal(
            "5 instead of 2: the plan touches the group only", actions, {GROUP: ["update"]}
        ):
            return
        self.report.equal(
            "5 instead of 2: of the group only its sizes",
            changed_keys(planned[GROUP]),
            ["desired_capacity", "max_size", "min_size"],
        )
        self.example.run("apply", "-auto-approve", "-input=false", "-no-color")
        self.report.equal(
            "apply with worker_count = 5: instances", len(running_workers(self.aws, self.group)), 5
        )
        self._check_nothing_else(before, inventory(self.aws))
        after = self._settled("after that a plan changes nothing")
        differ = [
            name for name in self.created.keys() | after.keys() if self.created.get(name) != after.get(name)
        ]
        self.report.equal("in the state, the group is all that differs", differ, [GROUP])

    def _settled(self, name):
        """Checks that there is nothing left to do; returns all resources."""
        plan = self.example.plan()
        self.report.equal(name, sorted(changes(plan)), [])
        return resources(plan)

    def _check_nothing_else(self, before, after):
        gone = sorted(set(before) - set(after))
        changed = sorted(key for key in before if key in after and before[key] != after[key])
        self.report.equal("nothing that was there went or changed", (gone, changed), ([], []))
        added = set(after) - set(before)
        instances = {name for kind, name in added if kind == "instance"}
        self.report.equal("three more instances", len(instances), 3)
        others = [key for key in added if key[0] != "instance" and not instances & owners(after[key])]
        self.report.equal("and nothing but their own disks and interfaces", others, [])

    def upgrade_plan(self):
        """Another binary: new workers get it, running ones stay, the coordinator keeps disk and address."""
        self._change_line("site.auto.tfvars", self.artefact["sha256"], "0" * 64)
        actions = {address: change["actions"] for address, change in changes(self.example.plan()).items()}
        self.report.equal(
            "another muster: launch template, group and coordinator change; disk, address and workers stay",
            actions,
            {
                "module.coordinator.aws_instance.this": ["delete", "create"],
                "module.coordinator.aws_volume_attachment.store": ["delete", "create"],
                "module.workers.aws_launch_template.this": ["update"],
                GROUP: ["update"],
            },
        )

    def _settings(self, image, sha256):
        self._write(
            self.example,
            "site.auto.tfvars",
            f'ami_id = "{image}"\nmuster_version = "0.1.0"\n'
            f'muster_url = "{ADDRESS}"\nmuster_sha256 = "{sha256}"\n',
        )

    def _append(self, name, text):
        with open(os.path.join(self.example.directory, name), "a", encoding="utf-8") as file:
            file.write(text)

    def _change_line(self, name, pattern, replacement):
        path = os.path.join(self.example.directory, name)
        with open(path, encoding="utf-8") as file:
            text, count = re.subn(pattern, replacement, file.read())
        if count != 1:
            raise RuntimeError(f"{name} has {count} lines that match {pattern}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    @staticmethod
    def _write(terraform, name, text):
        with open(os.path.join(terraform.directory, name), "w", encoding="utf-8") as file:
            file.write(text)


def owners(thing):
    """The instances a disk or an interface belongs to."""
    attachments = thing.get("Attachments") or [thing.get("Attachment") or {}]
    return {attachment.get("InstanceId") for attachment in attachments}
