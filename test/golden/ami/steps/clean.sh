#!/bin/bash
# Removes what is this machine's own. Secrets are overwritten first: what is only deleted stays on the raw disk.
set -euo pipefail
# Beside the steps lie the machine's files, what stands in, and perhaps login material: all of it in memory.
# shellcheck disable=SC2034 # not every step looks there
kit=$(cd "$(dirname "$0")/.." && pwd)
phase() { printf 'bake-phase: %s\n' "$1"; }
fail() {
  printf 'bake: %s\n' "$*" >&2
  exit 1
}
# What nobody foresaw shows its place.
set -E
trap 'printf "%s, line %s: %s\n" "${0##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR
# Whether this is a machine that runs; else it is a disk in a chroot.
live() { [ -d /run/systemd/system ]; }
# What was written is on the disk; in a chroot on that alone, and not on all disks of whoever bakes.
# shellcheck disable=SC2317 # not every step writes
settle() { if live; then sync; else sync --file-system /; fi; }
# What a machine must not pass on to those that are made from it: `clean` removes it, `scan` looks again.
homes() {
  { cut -d : -f 6 /etc/passwd; printf '/root\n'; for home in /home/*; do echo "$home"; done; } | sort -u | while IFS= read -r home; do
    [ "$home" = / ] || [ ! -d "$home" ] || echo "${home%/}"
  done
}
each_there() {
  local path
  for path in "$@"; do [ ! -e "$path" ] && [ ! -L "$path" ] || printf '%s\n' "$path"; done
}
# Files that hold secrets, or say who was here.
traces() {
  local home
  homes | while IFS= read -r home; do
    each_there "$home"/.ssh/authorized_keys* "$home"/.*_history "$home"/.lesshst "$home"/.viminfo "$home"/.wget-hsts
  done
  each_there /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /etc/docker/key.json \
    /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
  logins
}
# docker's and podman's files, when they hold a login and not only settings.
logins() {
  local home
  homes | while IFS= read -r home; do
    each_there "$home"/.docker/config.json "$home"/.dockercfg "$home"/.config/containers/auth.json
  done | while IFS= read -r path; do
    ! grep -qsE '"(auth|identitytoken|registrytoken|password)"' -- "$path" || printf '%s\n' "$path"
  done
}
# Directories of a first boot: cloud-init takes an instance that it knows for one that is set up.
states() { each_there /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem; }

phase 'clean begin'
if live; then
  # Nobody writes any more; the journal goes on in memory.
  systemctl --quiet stop docker.socket docker.service containerd.service 2>/dev/null || true
  systemctl --quiet stop rsyslog.service syslog.socket systemd-random-seed.service 2>/dev/null || true
  journalctl --relinquish-var 2>/dev/null || true
fi

traces | while IFS= read -r path; do
  printf 'removing %s\n' "$path"
  [ ! -f "$path" ] || [ -L "$path" ] || shred --iterations=0 --zero -- "$path"
  rm -f -- "$path"
done
states | while IFS= read -r path; do rm -rf -- "$path"; done
# What cloud-init wrote for this machine's network card.
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init /etc/network/interfaces.d/50-cloud-init.cfg \
  /etc/systemd/network/10-cloud-init-*.network /etc/udev/rules.d/70-persistent-net.rules
rm -f /var/lib/dhcp/*.leases /var/lib/dhclient/*.lease* /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key
rm -f /var/lib/docker/engine-id

# Truncated, not deleted: without the file systemd would take each start for the very first one.
: >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi

rm -rf /var/cache/apt/archives/*.deb /var/cache/apt/*.bin /var/cache/dnf/* /var/cache/yum/*
rm -rf /var/log/journal/*
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' -o -name '*-20[0-9][0-9]*' \) -delete
find /var/log -xdev -type f -size +0 -exec truncate --size=0 -- {} +
rm -rf /var/crash/* /var/lib/systemd/coredump/*
for dir in /tmp /var/tmp; do
  # What services have for themselves goes when they stop.
  find "$dir" -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.X*-unix' ! -name '.ICE-unix' -exec rm -rf -- {} +
done

# What was deleted needs no room, where the disk can be told; BAKE_TRIMMED: it was told each time.
settle
[ -n "${BAKE_TRIMMED-}" ] || findmnt --raw --noheadings --output TARGET --types ext4,xfs,btrfs,f2fs,vfat | sort -u | while read -r target; do
  fstrim "$(printf '%b' "$target")" 2>/dev/null || true
done
phase 'clean end'
