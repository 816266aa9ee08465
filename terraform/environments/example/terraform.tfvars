# The size of the fleet. Change this line, then: terraform apply
worker_count = 2

name                      = "muster-example"
region                    = "eu-central-1"
availability_zones        = ["eu-central-1a", "eu-central-1b"]
coordinator_instance_type = "t3.small"
worker_instance_type      = "m6i.large"
