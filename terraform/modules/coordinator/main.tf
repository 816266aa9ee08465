# One coordinator: an instance that can be replaced at will, an address and a disk that stay.

module "host" {
  source                     = "../host"
  name                       = "${var.name}-coordinator"
  daemon                     = "coordinator"
  vpc_id                     = var.vpc_id
  muster_url                 = var.muster_url
  muster_sha256              = var.muster_sha256
  ecr_repository_arns        = var.ecr_repository_arns
  egress_cidr_blocks         = var.egress_cidr_blocks
  monitoring_cidr_blocks     = var.monitoring_cidr_blocks
  monitoring_security_groups = var.monitoring_security_groups

  # By volume id: the names of devices depend on the kind of instance.
  data_device = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.store.id, "-", "")}"

  environment = merge(var.environment, {
    MUSTER_COORDINATOR_LISTEN               = "0.0.0.0:7380"
    MUSTER_COORDINATOR_HTTP_LISTEN          = length(var.http_cidr_blocks) > 0 ? "0.0.0.0:7381" : "127.0.0.1:7381"
    MUSTER_COORDINATOR_INSECURE_DEV_NETWORK = tostring(var.insecure_dev_network)
  })
}

# The address agents are given. It stays when the instance is replaced, so the agents' settings do too.
resource "aws_network_interface" "this" {
  subnet_id       = var.subnet_id
  security_groups = [module.host.security_group_id]
  tags            = { Name = "${var.name}-coordinator" }
}

resource "aws_ebs_volume" "store" {
  availability_zone = var.availability_zone
  size              = var.store_gib
  type              = "gp3"
  encrypted         = true
  kms_key_id        = var.kms_key_id
  # Destroying the coordinator leaves a snapshot of its store.
  final_snapshot = true
  tags           = { Name = "${var.name}-coordinator-store" }
}

resource "aws_instance" "this" {
  ami                         = var.ami_id
  instance_type               = var.instance_type
  iam_instance_profile        = module.host.instance_profile
  user_data                   = module.host.user_data
  user_data_replace_on_change = true
  tags                        = { Name = "${var.name}-coordinator", muster_version = var.muster_version }

  network_interface {
    network_interface_id = aws_network_interface.this.id
    device_index         = 0
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 10
    encrypted   = true
    kms_key_id  = var.kms_key_id
    tags        = { Name = "${var.name}-coordinator" }
  }
}

resource "aws_volume_attachment" "store" {
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.store.id
  instance_id = aws_instance.this.id
  # The store is closed before its disk goes.
  stop_instance_before_detaching = true
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each          = toset(var.client_cidr_blocks)
  security_group_id = module.host.security_group_id
  description       = "clients"
  ip_protocol       = "tcp"
  from_port         = 7380
  to_port           = 7380
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_ingress_rule" "http" {
  for_each          = toset(var.http_cidr_blocks)
  security_group_id = module.host.security_group_id
  description       = "webhooks and metrics"
  ip_protocol       = "tcp"
  from_port         = 7381
  to_port           = 7381
  cidr_ipv4         = each.value
}
