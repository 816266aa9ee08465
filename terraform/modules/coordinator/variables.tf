variable "name" {
  description = "Prefix of every name, e.g. muster-example."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_id" {
  description = "A private subnet."
  type        = string
}

variable "availability_zone" {
  description = "The zone of that subnet; the disk of the store has to be in it."
  type        = string
}

variable "ami_id" {
  description = "A Debian 12 image. Pinned, not looked up: a newer image must not change hosts behind your back."
  type        = string
}

variable "instance_type" {
  description = "Kind of instance; one built on Nitro, of the same architecture as the image and the muster binary."
  type        = string
}

variable "kms_key_id" {
  description = "Key for the disks; null takes the account's default key."
  type        = string
  default     = null
}

variable "muster_version" {
  description = "Version of the binary at muster_url; shown in the instance's tags."
  type        = string
}

variable "muster_url" {
  description = "Where hosts download the muster binary."
  type        = string
}

variable "muster_sha256" {
  description = "SHA-256 of that binary. Other bytes are not installed."
  type        = string
}

variable "insecure_dev_network" {
  # No default, on purpose: whoever sets it has read this.
  description = <<-EOT
    Until muster has TLS, a coordinator that listens beyond loopback talks in the clear and knows nobody's
    identity: whoever reaches port 7380 can run containers on every worker. This module puts it in a private
    subnet and opens the port to the workers' security groups (and client_cidr_blocks), and to no one else.
    Set it to true if that is acceptable for what you run.
  EOT
  type        = bool
  nullable    = false

  validation {
    condition     = var.insecure_dev_network
    error_message = "Without TLS no worker can reach a coordinator, except in the clear: read the variable's description, then set it to true or wait."
  }
}

variable "client_cidr_blocks" {
  description = "Who else may submit jobs on port 7380, e.g. a VPN's range. Nobody by default."
  type        = list(string)
  default     = []
}

variable "http_cidr_blocks" {
  description = "Who may reach webhooks and metrics on port 7381. Nobody by default; tags are polled all the same."
  type        = list(string)
  default     = []
}

variable "store_gib" {
  description = "Size of the disk of the store, in GiB."
  type        = number
  default     = 20
}

variable "environment" {
  description = "Further settings of the coordinator, e.g. { MUSTER_COORDINATOR_REGISTRY_POLL = \"1m\" }."
  type        = map(string)
  default     = {}
}

variable "ecr_repository_arns" {
  description = "ECR repositories whose tags the coordinator may resolve. None by default."
  type        = list(string)
  default     = []
}

variable "egress_cidr_blocks" {
  description = "Where the hosts may connect to."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "monitoring_cidr_blocks" {
  description = "Who may read node_exporter on port 9100. Nobody by default."
  type        = list(string)
  default     = []
}

variable "monitoring_security_groups" {
  description = "Who may read node_exporter on port 9100: a name of your choice to a security group id."
  type        = map(string)
  default     = {}
}
