# An example environment: a network, a coordinator, and one pool of workers. Copy the directory for each
# further environment and change name, key (backend.tf) and addresses.

terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region
}

module "network" {
  source             = "../../modules/network"
  name               = var.name
  availability_zones = var.availability_zones
}

module "coordinator" {
  source               = "../../modules/coordinator"
  name                 = var.name
  vpc_id               = module.network.vpc_id
  subnet_id            = module.network.private_subnet_ids[var.availability_zones[0]]
  availability_zone    = var.availability_zones[0]
  ami_id               = var.ami_id
  instance_type        = var.coordinator_instance_type
  muster_version       = var.muster_version
  muster_url           = var.muster_url
  muster_sha256        = var.muster_sha256
  insecure_dev_network = var.insecure_dev_network
}

module "workers" {
  source                        = "../../modules/workers"
  name                          = var.name
  worker_count                  = var.worker_count
  vpc_id                        = module.network.vpc_id
  subnet_ids                    = values(module.network.private_subnet_ids)
  coordinator_address           = module.coordinator.address
  coordinator_security_group_id = module.coordinator.security_group_id
  ami_id                        = var.ami_id
  instance_type                 = var.worker_instance_type
  muster_version                = var.muster_version
  muster_url                    = var.muster_url
  muster_sha256                 = var.muster_sha256
}

output "coordinator_address" {
  description = "MUSTER_ADDR for clients inside the VPC."
  value       = module.coordinator.address
}

output "workers" {
  description = "Name of the workers' autoscaling group."
  value       = module.workers.autoscaling_group
}
