# shellcheck shell=bash
# What machine images take: Packer, QEMU, tools that make disks. Part of bin/setup.

# Older ones have no HCL2 templates with source and build blocks.
PACKER_AT_LEAST=1.6

# Red Hat's cracklib has a program of that name too, which knows no versions.
packer_version() { packer version </dev/null 2>/dev/null | sed -n 's/^Packer v\{0,1\}\([0-9.]*\).*/\1/p' | head -n 1; }

# Command, and the package that brings it.
machine_tools() {
  case $(uname -m) in
    aarch64 | arm64) echo qemu-system-aarch64 qemu-system-arm ;;
    *)
      echo qemu-system-x86_64 qemu-system-x86
      # Only bake base, which makes amd64 disks, uses it.
      echo extlinux extlinux
      ;;
  esac
  echo qemu-img qemu-utils
  # What bake changes disks with.
  echo qemu-storage-daemon qemu-system-common
  echo slirp4netns slirp4netns
  echo iptables iptables
  echo mcopy mtools
  echo mkfs.vfat dosfstools
  echo mmdebstrap mmdebstrap
  echo ssh-keygen openssh-client
}

look_for_machine_tools() {
  local version command package found=()
  version=$(packer_version) || version=
  if [ -n "$version" ] && version_at_least "$PACKER_AT_LEAST" "$version"; then
    fine "packer $version"
  else
    [ -z "$version" ] || lost "packer $version is too old: $PACKER_AT_LEAST is the first that works"
    packages+=(packer)
  fi
  while read -r command package; do
    if has "$command"; then found+=("$command"); else packages+=("$package"); fi
  done < <(machine_tools)
  [ "$(uname -m)" != aarch64 ] || [ -e /usr/share/AAVMF/AAVMF_CODE.fd ] || packages+=(qemu-efi-aarch64)
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || packages+=(debian-archive-keyring)
  [ "${#found[@]}" = 0 ] || fine "${found[*]}"
}
