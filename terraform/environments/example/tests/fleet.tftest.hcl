# Rules of the modules that need no cloud: the provider is mocked, nothing is created.
# Run with: terraform init -backend=false && terraform test

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name                          = "t"
  vpc_id                        = "vpc-1"
  subnet_id                     = "subnet-1"
  subnet_ids                    = ["subnet-1", "subnet-2"]
  availability_zone             = "eu-central-1a"
  instance_type                 = "t3.small"
  daemon                        = "agent"
  environment                   = {}
  coordinator_address           = "http://10.20.16.4:7380"
  coordinator_security_group_id = "sg-1"
  worker_count                  = 2
  ami_id                        = "ami-1"
  muster_version                = "0.1.0"
  muster_url                    = "https://downloads.example/muster"
  muster_sha256                 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  insecure_dev_network          = true
}

run "the_example_has_two_workers" {
  command = plan

  assert {
    condition     = module.workers.worker_count == 2
    error_message = "the group keeps worker_count workers"
  }
}

run "the_group_has_a_fixed_size" {
  command = plan
  module { source = "../../modules/workers" }
  variables { worker_count = 7 }

  assert {
    condition = alltrue([
      aws_autoscaling_group.this.min_size == 7,
      aws_autoscaling_group.this.max_size == 7,
      aws_autoscaling_group.this.desired_capacity == 7,
    ])
    error_message = "minimum, maximum and desired size are worker_count"
  }
}

run "workers_are_locked_down" {
  command = plan
  module { source = "../../modules/workers" }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "the metadata service wants a token and answers over one hop"
  }

  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "disks are encrypted"
  }

  assert {
    condition     = aws_launch_template.this.network_interfaces[0].associate_public_ip_address == "false" && aws_launch_template.this.key_name == null
    error_message = "no public address, no SSH key"
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.coordinator_from_workers.security_group_id == "sg-1" && aws_vpc_security_group_ingress_rule.coordinator_from_workers.from_port == 7380 && aws_vpc_security_group_ingress_rule.coordinator_from_workers.to_port == 7380
    error_message = "the one port opened is the coordinator's"
  }
}

run "the_coordinator_is_locked_down" {
  command = plan
  module { source = "../../modules/coordinator" }

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "the metadata service wants a token and answers over one hop"
  }

  assert {
    condition     = aws_ebs_volume.store.encrypted && aws_instance.this.root_block_device[0].encrypted
    error_message = "disks are encrypted"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.client) == 0 && length(aws_vpc_security_group_ingress_rule.http) == 0
    error_message = "nobody but workers comes in by default"
  }
}

run "a_host_opens_nothing_and_may_do_nothing" {
  command = plan
  module { source = "../../modules/host" }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.node_exporter_cidr) + length(aws_vpc_security_group_ingress_rule.node_exporter_group) == 0
    error_message = "no inbound rule by default"
  }

  assert {
    condition     = length(aws_iam_role_policy.pull) == 0
    error_message = "the role has no permission by default"
  }
}

run "monitoring_reads_node_exporter_and_no_more" {
  command = plan
  module { source = "../../modules/host" }

  variables {
    monitoring_cidr_blocks     = ["10.9.0.0/24"]
    monitoring_security_groups = { prometheus = "sg-9" }
  }

  assert {
    condition = alltrue([
      for rule in concat(
        values(aws_vpc_security_group_ingress_rule.node_exporter_cidr),
        values(aws_vpc_security_group_ingress_rule.node_exporter_group),
      ) : rule.from_port == 9100 && rule.to_port == 9100 && rule.ip_protocol == "tcp"
    ])
    error_message = "port 9100 and nothing else"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.node_exporter_cidr) == 1 && length(aws_vpc_security_group_ingress_rule.node_exporter_group) == 1
    error_message = "one rule for each source"
  }
}

run "ecr_repositories_bring_the_helper_and_the_right" {
  command = plan
  module { source = "../../modules/host" }
  variables { ecr_repository_arns = ["arn:aws:ecr:eu-central-1:123456789012:repository/analytics"] }

  assert {
    condition     = length(aws_iam_role_policy.pull) == 1
    error_message = "the role may pull"
  }

  assert {
    condition     = strcontains(output.user_data, "123456789012.dkr.ecr.eu-central-1.amazonaws.com") && strcontains(output.user_data, "amazon-ecr-credential-helper")
    error_message = "the host has the credential helper and its settings"
  }
}

run "the_insecure_network_has_to_be_accepted" {
  command = plan
  module { source = "../../modules/coordinator" }
  variables { insecure_dev_network = false }
  expect_failures = [var.insecure_dev_network]
}

run "a_checksum_is_a_checksum" {
  command = plan
  module { source = "../../modules/host" }
  variables { muster_sha256 = "latest" }
  expect_failures = [var.muster_sha256]
}

run "an_address_is_not_an_option" {
  command = plan
  module { source = "../../modules/host" }
  variables { muster_url = "--config=/etc/shadow" }
  expect_failures = [var.muster_url]
}

run "a_setting_cannot_become_two" {
  command = plan
  module { source = "../../modules/host" }
  variables { environment = { MUSTER_AGENT_POOL = "a\nLD_PRELOAD=/tmp/x.so" } }
  expect_failures = [var.environment]
}

run "a_setting_cannot_hold_quotes_or_dollars" {
  command = plan
  module { source = "../../modules/host" }
  variables { environment = { MUSTER_AGENT_POOL = "\"$(reboot)\"" } }
  expect_failures = [var.environment]
}

run "a_label_is_one_label" {
  command = plan
  module { source = "../../modules/workers" }
  variables { labels = { zone = "a,gpu=yes" } }
  expect_failures = [var.labels]
}

run "a_count_is_a_whole_number" {
  command = plan
  module { source = "../../modules/workers" }
  variables { worker_count = 2.5 }
  expect_failures = [var.worker_count]
}
