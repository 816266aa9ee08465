# One pool of workers: a launch template, and an autoscaling group that keeps worker_count of them.
# Use the module once for each pool.

module "host" {
  source                     = "../host"
  name                       = local.name
  daemon                     = "agent"
  vpc_id                     = var.vpc_id
  muster_url                 = var.muster_url
  muster_sha256              = var.muster_sha256
  ecr_repository_arns        = var.ecr_repository_arns
  egress_cidr_blocks         = var.egress_cidr_blocks
  monitoring_cidr_blocks     = var.monitoring_cidr_blocks
  monitoring_security_groups = var.monitoring_security_groups

  # The agent's name is missing here: it is the instance id, which the host knows.
  environment = merge(
    var.environment,
    {
      MUSTER_AGENT_COORDINATOR = var.coordinator_address
      MUSTER_AGENT_POOL        = var.pool
    },
    length(var.labels) > 0 ? {
      MUSTER_AGENT_LABELS = join(",", [for key in sort(keys(var.labels)) : "${key}=${var.labels[key]}"])
    } : {},
  )
}

locals {
  name = "${var.name}-workers-${var.pool}"
}

# Agents dial out; this is the only place where a port is opened for them, and it is the coordinator's.
resource "aws_vpc_security_group_ingress_rule" "coordinator_from_workers" {
  security_group_id            = var.coordinator_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 7380
  to_port                      = 7380
  referenced_security_group_id = module.host.security_group_id
  tags                         = { Name = "agents of pool ${var.pool}" }
}

resource "aws_launch_template" "this" {
  name          = local.name
  image_id      = var.ami_id
  instance_type = var.instance_type
  user_data     = base64encode(module.host.user_data)
  ebs_optimized = true

  iam_instance_profile {
    name = module.host.instance_profile
  }

  # With one hop, an answer of the metadata service does not reach into a container.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    http_protocol_ipv6          = "disabled"
    instance_metadata_tags      = "disabled"
  }

  network_interfaces {
    associate_public_ip_address = false
    delete_on_termination       = true
    security_groups             = [module.host.security_group_id]
  }

  block_device_mappings {
    device_name = var.root_device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = var.disk_gib
      encrypted             = true
      kms_key_id            = var.kms_key_id
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = local.name, muster_version = var.muster_version, muster_pool = var.pool }
  }

  tag_specifications {
    resource_type = "volume"
    tags          = { Name = local.name }
  }
}

# worker_count is used here and nowhere else.
resource "aws_autoscaling_group" "this" {
  name                = local.name
  min_size            = var.worker_count
  max_size            = var.worker_count
  desired_capacity    = var.worker_count
  vpc_zone_identifier = var.subnet_ids
  health_check_type   = "EC2"

  # Evening out the zones would terminate hosts that have tasks.
  suspended_processes = ["AZRebalance"]

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
}
