output "address" {
  description = "What agents and clients are given as the coordinator's address."
  value       = "http://${aws_network_interface.this.private_ip}:7380"
}

output "security_group_id" {
  description = "The coordinator's security group; the workers module adds its rule to it."
  value       = module.host.security_group_id
}
