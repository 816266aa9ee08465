output "autoscaling_group" {
  description = "Name of the autoscaling group."
  value       = aws_autoscaling_group.this.name
}

output "worker_count" {
  description = "How many workers the group keeps."
  value       = aws_autoscaling_group.this.desired_capacity
}

output "security_group_id" {
  description = "The workers' security group."
  value       = module.host.security_group_id
}
