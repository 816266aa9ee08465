output "user_data" {
  description = "The cloud-init configuration, as text."
  value       = local.user_data

  precondition {
    condition     = length(local.user_data) <= 16384
    error_message = "The user data is over the 16 KiB that EC2 takes: shorten labels or settings."
  }
}

output "security_group_id" {
  description = "The host's security group. Nothing comes in unless a rule says so."
  value       = aws_security_group.this.id
}

output "instance_profile" {
  description = "Name of the instance profile. Known once the role has all its permissions."
  value       = aws_iam_instance_profile.this.name
  depends_on  = [aws_iam_role_policy.pull]
}
