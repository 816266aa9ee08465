variable "worker_count" {
  description = "How many workers there are."
  type        = number
}

variable "name" {
  description = "Name of the environment, and prefix of every name in it."
  type        = string
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "availability_zones" {
  description = "Zones of that region to spread over; the coordinator is in the first."
  type        = list(string)
}

variable "coordinator_instance_type" {
  description = "Kind of instance for the coordinator."
  type        = string
}

variable "worker_instance_type" {
  description = "Kind of instance for the workers."
  type        = string
}

variable "ami_id" {
  description = "The Debian 12 image of all hosts."
  type        = string
}

variable "muster_version" {
  description = "Version of the binary at muster_url."
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
  # No default, on purpose; see modules/coordinator/variables.tf.
  description = "true: traffic between coordinator, agents and clients is in the clear and without identity, and whoever reaches the coordinator's port 7380 can run containers on every worker. Only the workers' security group can, in a private subnet."
  type        = bool
}
