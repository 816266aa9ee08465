output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Zone to private subnet. Depends on the way out, so hosts start when they can download."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
  depends_on  = [aws_route.private, aws_route_table_association.private]
}

output "availability_zones" {
  description = "The zones, in the order given."
  value       = var.availability_zones
}
