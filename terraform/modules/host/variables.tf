variable "name" {
  description = "Name of the role, the instance profile and the security group; unique in the account."
  type        = string
}

variable "daemon" {
  description = "What the host runs: agent or coordinator."
  type        = string

  validation {
    condition     = contains(["agent", "coordinator"], var.daemon)
    error_message = "daemon is agent or coordinator."
  }
}

variable "vpc_id" {
  description = "VPC of the security group."
  type        = string
}

variable "environment" {
  description = "Lines of /etc/muster/DAEMON.env."
  type        = map(string)

  # Quotes, spaces, backslashes and line ends are left out, so that no value can become a second setting.
  validation {
    condition = alltrue([
      for key, value in var.environment :
      can(regex("^[A-Z][A-Z0-9_]*$", key)) && can(regex("^[A-Za-z0-9_.,:/=@+%-]*$", value))
    ])
    error_message = "A setting's name is upper-case letters, digits and _; its value is letters, digits and _ . , : / = @ + % -"
  }
}

variable "muster_url" {
  description = "Where hosts download the muster binary: http or https, reachable from the private subnets."
  type        = string

  validation {
    condition     = can(regex("^https?://[^[:space:][:cntrl:]]+$", var.muster_url))
    error_message = "muster_url is an http or https address."
  }
}

variable "muster_sha256" {
  description = "SHA-256 of that binary, 64 lower-case hexadecimal digits. Other bytes are not installed."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.muster_sha256))
    error_message = "muster_sha256 is 64 lower-case hexadecimal digits, as sha256sum prints them."
  }
}

variable "data_device" {
  description = "Path of the disk of the coordinator's store; empty for none."
  type        = string
  default     = ""
}

variable "ecr_repository_arns" {
  description = "ECR repositories the host may pull from. None: the host's role may do nothing."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.ecr_repository_arns : can(regex("^arn:aws[a-z-]*:ecr:[a-z0-9-]+:[0-9]{12}:repository/[a-z0-9._/*-]+$", arn))])
    error_message = "An ECR repository is arn:aws:ecr:REGION:ACCOUNT:repository/NAME."
  }
}

variable "egress_cidr_blocks" {
  description = "Where the host may connect to."
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
