# A disk in a virtual machine of this machine. Paths are relative to the directory that Packer runs in.

# A qcow2 file whose name ends in .qcow2: Packer copies it as it is. Made as an overlay of the base disk, which is never written to.
variable "base" {
  type    = string
  default = "base.qcow2"
}

# Made by Packer; disk.qcow2 in it is the result, an overlay as `base` is.
variable "output" {
  type    = string
  default = "output"
}

# A file system labelled CIDATA with the key that gets in (NoCloud).
variable "seed" {
  type    = string
  default = "seed.img"
}

# The same key as SMBIOS strings, for a base without cloud-init: "type=11,value=io.systemd.credential…".
variable "smbios" {
  type    = list(string)
  default = []
}

# A name in PATH, or a path.
variable "qemu" {
  type    = string
  default = "qemu-system-x86_64"
}

variable "accelerator" {
  type    = string
  default = "tcg"
}

# As QEMU's -cpu.
variable "cpu" {
  type    = string
  default = "max"
}

variable "ssh_username" {
  type    = string
  default = "root"
}

variable "ssh_private_key_file" {
  type = string
}

variable "cpus" {
  type    = number
  default = 2
}

# MiB
variable "memory" {
  type    = number
  default = 2048
}

# What the machine says on its serial console.
variable "console" {
  type    = string
  default = "console.log"
}

# Directory with steps, the machine's files and what stands in; in `login` there may be a docker config.json.
variable "kit" {
  type    = string
  default = "machine"
}

# Where a registry of this machine's 127.0.0.1 is to the virtual machine.
variable "loopback" {
  type    = string
  default = "10.0.2.2"
}

variable "manifest" {
  type    = string
  default = "packer-manifest.json"
}

source "qemu" "machine" {
  qemu_binary      = var.qemu
  machine_type     = "q35"
  accelerator      = var.accelerator
  cpus             = var.cpus
  memory           = var.memory
  disk_image       = true
  iso_url          = var.base
  iso_checksum     = "none"
  format           = "qcow2"
  skip_resize_disk = true
  skip_compaction  = true
  output_directory = var.output
  vm_name          = "disk.qcow2"

  # Nobody looks and nobody types: without it Packer connects to a screen that is not there.
  headless    = true
  disable_vnc = true
  boot_wait   = "-1s"

  # These replace all that Packer would say with the same switches.
  qemuargs = concat([
    ["-nodefaults", ""],
    ["-display", "none"],
    ["-vnc", "none"],
    ["-serial", "file:${var.console}"],
    ["-cpu", var.cpu],
    # Not safe against a power cut, and half a disk is none.
    ["-drive", "if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=unmap,file={{ .OutputDir }}/{{ .Name }}"],
    ["-device", "nvme,drive=root,serial=bake-root,bootindex=0"],
    ["-drive", "if=none,id=seed,format=raw,readonly=on,file=${var.seed}"],
    ["-device", "virtio-blk-pci,drive=seed"],
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    ["-device", "virtio-net-pci,netdev=user.0,romfile="],
    ["-device", "virtio-rng-pci"],
  ], [for value in var.smbios : ["-smbios", value]])

  communicator           = "ssh"
  ssh_username           = var.ssh_username
  ssh_private_key_file   = var.ssh_private_key_file
  ssh_timeout            = "20m"
  ssh_handshake_attempts = 1000

  shutdown_command = "${local.as_root}systemctl --no-block poweroff"
  shutdown_timeout = "5m"
}

locals {
  # Root, whoever it is that gets in.
  as_root = var.ssh_username == "root" ? "" : "sudo -n "
  execute = "${local.as_root}env {{ .Vars }} sh {{ .Path }}"
}

build {
  sources = ["source.qemu.machine"]

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
