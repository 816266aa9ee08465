variable "name" {
  description = "Prefix of every name, e.g. muster-example."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, in as many zones as the pool should be spread over."
  type        = list(string)
}

variable "coordinator_address" {
  description = "The coordinator's address: http://HOST:7380."
  type        = string
}

variable "coordinator_security_group_id" {
  description = "The coordinator's security group; it gets a rule that lets these workers in."
  type        = string
}

variable "worker_count" {
  description = "How many workers there are, 0 to 1000."
  type        = number

  validation {
    condition     = var.worker_count >= 0 && var.worker_count <= 1000 && floor(var.worker_count) == var.worker_count
    error_message = "worker_count is a whole number from 0 to 1000."
  }
}

variable "pool" {
  description = "The pool the workers join: lower-case letters, digits and -."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.pool))
    error_message = "pool is 1 to 32 lower-case letters, digits and -, not at the ends."
  }
}

variable "labels" {
  description = "Labels of the workers, which jobs can ask for."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[A-Za-z0-9_./-]+$", key)) && can(regex("^[A-Za-z0-9_.:/@+-]*$", value))
    ])
    error_message = "A label is key=value without spaces, commas or further equals signs."
  }
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

variable "root_device_name" {
  description = "Name of the image's root device; Debian's images have /dev/xvda."
  type        = string
  default     = "/dev/xvda"
}

variable "disk_gib" {
  description = "Size of a worker's disk, in GiB: images, containers and output that is still to be sent."
  type        = number
  default     = 50
}

variable "environment" {
  description = "Further settings of the agents, e.g. { MUSTER_AGENT_PLACES = \"8\" }."
  type        = map(string)
  default     = {}
}

variable "ecr_repository_arns" {
  description = "ECR repositories workers may pull from. None by default."
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
