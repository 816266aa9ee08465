variable "name" {
  description = "Prefix of every name, e.g. muster-example."
  type        = string
}

variable "cidr_block" {
  description = "Addresses of the VPC, /16 to /24; cut into sixteen equal subnets."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.cidr_block, 4, 15)) && try(tonumber(split("/", var.cidr_block)[1]), 0) >= 16 && try(tonumber(split("/", var.cidr_block)[1]), 99) <= 24
    error_message = "cidr_block is an IPv4 range from /16 to /24, such as 10.20.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones with a private subnet each, 1 to 15. Named, not looked up, so that a new zone of the region changes nothing here."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 1 && length(var.availability_zones) <= 15 && length(distinct(var.availability_zones)) == length(var.availability_zones)
    error_message = "availability_zones names 1 to 15 different zones."
  }
}
