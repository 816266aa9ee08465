# What every muster host has, whichever daemon it runs: a role, a security group, node_exporter, a pinned
# muster, and the systemd unit that packaging/systemd ships. Used by coordinator and workers.

locals {
  systemd = "${path.module}/../../../packaging/systemd"

  # An agent needs the container engine, a coordinator does not.
  packages = concat(
    ["ca-certificates", "curl", "prometheus-node-exporter"],
    var.daemon == "agent" ? ["apparmor", "docker.io", "iptables"] : [],
    length(var.ecr_repository_arns) > 0 ? ["amazon-ecr-credential-helper"] : [],
  )

  # Every value is from an alphabet in which systemd gives no character a meaning; see variables.tf.
  environment = join("", [for key in sort(keys(var.environment)) : "${key}=${var.environment[key]}\n"])

  # arn:aws:ecr:REGION:ACCOUNT:repository/NAME
  registries = distinct([
    for arn in var.ecr_repository_arns : "${split(":", arn)[4]}.dkr.ecr.${split(":", arn)[3]}.amazonaws.com"
  ])

  files = concat(
    [
      {
        path        = "/etc/systemd/system/muster-${var.daemon}.service"
        content     = file("${local.systemd}/muster-${var.daemon}.service")
        permissions = "0644"
      },
      {
        path        = "/etc/muster/${var.daemon}.env"
        content     = local.environment
        permissions = "0644"
      },
      {
        path        = "/usr/local/lib/muster/install"
        content     = file("${path.module}/install")
        permissions = "0755"
      },
    ],
    var.daemon == "coordinator" ? [{
      path        = "/etc/sysusers.d/muster.conf"
      content     = file("${local.systemd}/muster.sysusers")
      permissions = "0644"
    }] : [],
    var.daemon == "agent" ? [
      {
        path        = "/etc/docker/daemon.json"
        content     = file("${path.module}/daemon.json")
        permissions = "0644"
      },
      {
        path        = "/etc/systemd/system/docker.service.d/muster.conf"
        content     = file("${local.systemd}/docker.service.d/muster.conf")
        permissions = "0644"
      },
    ] : [],
    length(local.registries) > 0 ? [{
      path        = "/etc/muster/docker/config.json"
      content     = jsonencode({ credHelpers = { for registry in local.registries : registry => "ecr-login" } })
      permissions = "0644"
    }] : [],
  )

  # Arguments, not a shell line: cloud-init quotes each.
  install = concat(
    ["/usr/local/lib/muster/install", var.daemon, var.muster_url, var.muster_sha256, var.data_device],
    local.packages,
  )

  user_data = "#cloud-config\n${yamlencode({ write_files = local.files, runcmd = [local.install] })}"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# The role may do nothing, unless images are in ECR.
resource "aws_iam_role" "this" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = { Name = var.name }
}

resource "aws_iam_instance_profile" "this" {
  name = var.name
  role = aws_iam_role.this.name
}

data "aws_iam_policy_document" "pull" {
  count = length(var.ecr_repository_arns) > 0 ? 1 : 0

  # This one action cannot be limited to a repository.
  statement {
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.ecr_repository_arns
  }
}

resource "aws_iam_role_policy" "pull" {
  count  = length(var.ecr_repository_arns) > 0 ? 1 : 0
  name   = "pull-images"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.pull[0].json
}

# Nothing comes in, except what a rule below or of the calling module names. There is no SSH.
resource "aws_security_group" "this" {
  name        = var.name
  description = "muster ${var.daemon}"
  vpc_id      = var.vpc_id
  tags        = { Name = var.name }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = toset(var.egress_cidr_blocks)
  security_group_id = aws_security_group.this.id
  description       = "packages, registries and whatever tasks talk to"
  ip_protocol       = "-1"
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_ingress_rule" "node_exporter_cidr" {
  for_each          = toset(var.monitoring_cidr_blocks)
  security_group_id = aws_security_group.this.id
  description       = "node_exporter"
  ip_protocol       = "tcp"
  from_port         = 9100
  to_port           = 9100
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_ingress_rule" "node_exporter_group" {
  for_each                     = var.monitoring_security_groups
  security_group_id            = aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = 9100
  to_port                      = 9100
  referenced_security_group_id = each.value
  tags                         = { Name = "node_exporter from ${each.key}" }
}
