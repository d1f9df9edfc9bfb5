#!/bin/bash
# Whether this machine can take the release, before anything on it is changed.
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

phase 'prepare begin'
[ "$(id -u)" = 0 ] || fail 'the steps run as root'
if live && command -v cloud-init >/dev/null; then
  # It is still installing packages and keys.
  timeout 600 cloud-init status --wait >/dev/null 2>&1 || true
fi

for tool in base64 blkid blockdev cmp cut dd df diff find findmnt flock fstrim grep head install sed shred sort stat sync systemctl tac tail timeout tr truncate xargs; do
  command -v "$tool" >/dev/null || fail "the base has no $tool; take another one, or install it in an image of your own"
done
machine=$(uname -m)
[ "$machine" = 'x86_64' ] || fail "the images are for x86_64, and this machine is $machine"

[ -x /usr/bin/docker ] || fail 'the base has no /usr/bin/docker; take one with Docker, or install it in an image of your own'
if live; then systemctl start docker.service || fail "docker.service doesn't start: $(systemctl show --property=Result docker.service)"; fi
version=$(docker version --format '{{.Server.Version}}' 2>&1) || fail "the engine doesn't answer: $version"
# docker run --pull came with it.
[[ $version =~ ^([0-9]+)\.([0-9]+) ]] || fail "the engine's version is $version"
if [ "${BASH_REMATCH[1]}" -lt 20 ] || { [ "${BASH_REMATCH[1]}" -eq 20 ] && [ "${BASH_REMATCH[2]}" -lt 10 ]; }; then
  fail "Docker $version is too old: 20.10 or later is needed"
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null || fail 'a service reads env_from, and the base has no Python 3.7 or later'
command -v systemd-creds >/dev/null || echo 'no systemd-creds here (systemd 250): no copy of what env_from reads is kept for a start without AWS'
command -v curl >/dev/null || fail 'a health check asks for https, and the base has no curl'

if live; then
  command -v nft >/dev/null || command -v iptables >/dev/null || fail 'the base has neither nft nor iptables, and the rehearsal cuts the network with one of them'
  # What lies in memory only must not come onto the disk, and what was on it must be found.
  swapoff --all || true
  mount -o remount,nodiscard / 2>/dev/null || true
  # Nobody else installs anything now.
  systemctl --quiet stop apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service dnf-makecache.timer 2>/dev/null || true
fi

# Compressed in the registry. With less than twice as much nothing fits: an image is unpacked while it is fetched.
compressed=5000000
root=$(docker info --format '{{.DockerRootDir}}')
free=$(df --output=avail --block-size=1 "$root" | tail -n 1)
[ "$free" -ge $((2 * compressed)) ] ||
  fail "the images need $((2 * compressed / 1048576)) MiB in $root at least, and $((free / 1048576)) MiB are free: a disk that is $(((4 * compressed - free) / 1073741824 + 1)) GiB larger would do"
phase 'prepare end'
