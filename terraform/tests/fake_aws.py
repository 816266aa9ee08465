"""A moto server on loopback, and what it holds."""

import os
import re
import signal
import subprocess
import sys
import time

import boto3

REGION = "eu-central-1"


class FakeAws:
    """Started on a free port, ended by pid."""

    def __init__(self, directory):
        self.log = os.path.join(directory, "moto.log")
        script = "from moto.server import main; main()"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = self._await_url()

    def _await_url(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read())
            if found:
                return found.group(1)
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"moto did not start; see {self.log}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def environment(self):
        """For Terraform: only the fake cloud, whatever account the caller is signed in to."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }


def running_workers(aws, group):
    """Ids of the group's instances that run, as EC2 and the group agree on them."""
    pages = (
        aws.client("ec2")
        .get_paginator("describe_instances")
        .paginate(
            Filters=[
                {"Name": "tag:aws:autoscaling:groupName", "Values": [group]},
                {"Name": "instance-state-name", "Values": ["running"]},
            ]
        )
    )
    instances = {i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]}
    groups = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    members = {i["InstanceId"] for g in groups["AutoScalingGroups"] for i in g["Instances"]}
    if instances != members:
        raise RuntimeError(f"EC2 has {instances}, the group has {members}")
    return instances


def inventory(aws):
    """Everything in the fake account that the environment could touch: kind and id to description."""
    ec2, iam = aws.client("ec2"), aws.client("iam")
    found = {}
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            found["instance", instance["InstanceId"]] = instance
    kinds = [
        ("volume", ec2.describe_volumes()["Volumes"], "VolumeId"),
        ("interface", ec2.describe_network_interfaces()["NetworkInterfaces"], "NetworkInterfaceId"),
        ("template", ec2.describe_launch_templates()["LaunchTemplates"], "LaunchTemplateId"),
        ("security group", ec2.describe_security_groups()["SecurityGroups"], "GroupId"),
        ("subnet", ec2.describe_subnets()["Subnets"], "SubnetId"),
        ("route table", ec2.describe_route_tables()["RouteTables"], "RouteTableId"),
        ("gateway", ec2.describe_nat_gateways()["NatGateways"], "NatGatewayId"),
        ("vpc", ec2.describe_vpcs()["Vpcs"], "VpcId"),
        ("role", iam.list_roles()["Roles"], "RoleName"),
        ("profile", iam.list_instance_profiles()["InstanceProfiles"], "InstanceProfileName"),
    ]
    for kind, things, key in kinds:
        for thing in things:
            # How many addresses are left follows from how many hosts there are.
            thing.pop("AvailableIpAddressCount", None)
            found[kind, thing[key]] = thing
    return found
