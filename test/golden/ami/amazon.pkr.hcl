# An AMI, on an instance. What an image gets besides its content (copies, sharing, deprecation, protection) it gets when it is proven, not here.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.0.0"
    }
  }
}

variable "ami_name" {
  type = string
}

# Id of this run: `bake prune` finds by it whatever was left behind.
variable "run" {
  type = string
}

variable "ssh_username" {
  type    = string
  default = "root"
}

variable "ssh_private_key_file" {
  type = string
}

# Brings the key's other half to the instance.
variable "user_data_file" {
  type = string
}

# Instead of the instance's own address, when something else plays it.
variable "ssh_host" {
  type    = string
  default = ""
}

variable "ssh_port" {
  type    = number
  default = 22
}

# Empty: EC2's own.
variable "endpoint_ec2" {
  type    = string
  default = ""
}

variable "skip_region_validation" {
  type    = bool
  default = false
}

variable "skip_metadata_api_check" {
  type    = bool
  default = false
}

# Empty: of the default VPC.
variable "subnet_id" {
  type    = string
  default = ""
}

# Empty: one for this run.
variable "security_group_ids" {
  type    = list(string)
  default = []
}

# Who may knock at that one.
variable "ssh_source_cidrs" {
  type    = list(string)
  default = ["0.0.0.0/0"]
}

variable "iam_instance_profile" {
  type    = string
  default = ""
}

# Directory with steps, the machine's files and what stands in; in `login` there may be a docker config.json.
variable "kit" {
  type    = string
  default = "machine"
}

# Where a registry of this machine's 127.0.0.1 is to whatever plays the instance; empty: nowhere.
variable "loopback" {
  type    = string
  default = ""
}

variable "manifest" {
  type    = string
  default = "packer-manifest.json"
}

locals {
  tags = {
    "bake:project" = "shop"
    "bake:inputs"  = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
    "bake:run"     = var.run
    "bake:proven"  = "false"
  }
  run_tags = {
    "Name"         = "bake shop"
    "bake:project" = "shop"
    "bake:run"     = var.run
  }
}

source "amazon-ebs" "machine" {
  region                  = "eu-central-1"
  custom_endpoint_ec2     = var.endpoint_ec2
  skip_region_validation  = var.skip_region_validation
  skip_metadata_api_check = var.skip_metadata_api_check

  source_ami           = "ami-0123456789abcdef0"
  instance_type        = "t3.small"
  user_data_file       = var.user_data_file
  subnet_id            = var.subnet_id
  security_group_ids   = var.security_group_ids
  iam_instance_profile = var.iam_instance_profile

  temporary_security_group_source_cidrs = var.ssh_source_cidrs

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }

  communicator           = "ssh"
  ssh_username           = var.ssh_username
  ssh_private_key_file   = var.ssh_private_key_file
  ssh_host               = var.ssh_host
  ssh_port               = var.ssh_port
  ssh_timeout            = "20m"
  ssh_handshake_attempts = 1000

  ami_name        = var.ami_name
  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = local.run_tags
  run_volume_tags = local.run_tags
}

locals {
  # Root, whoever it is that gets in.
  as_root = var.ssh_username == "root" ? "" : "sudo -n "
  execute = "${local.as_root}env {{ .Vars }} sh {{ .Path }}"
}

build {
  sources = ["source.amazon-ebs.machine"]

  # All of it lies in memory there: nothing of the baking stays on the disk.
  provisioner "shell" {
    remote_folder   = "/dev/shm"
    execute_command = "env {{ .Vars }} sh {{ .Path }}"
    inline          = ["${local.as_root}install -d -m 0700 -o \"$(id -u)\" /run/bake-bake"]
  }

  provisioner "file" {
    source      = "${var.kit}/"
    destination = "/run/bake-bake"
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/prepare.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/images.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/install.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/setup.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/rehearse.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/clean.sh"]
    skip_clean       = true
  }

  provisioner "shell" {
    remote_folder    = "/run/bake-bake"
    execute_command  = local.execute
    environment_vars = ["BAKE_LOOPBACK=${var.loopback}"]
    inline           = ["exec bash -euo pipefail /run/bake-bake/steps/scan.sh"]
    skip_clean       = true
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
