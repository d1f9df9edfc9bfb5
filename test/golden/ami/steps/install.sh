#!/bin/bash
# Puts units, scripts and the disk's manifest where they belong. Nothing starts.
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

phase 'install begin'
units=( 'bake-net.service' 'bake-instance.service' 'bake-proof.service' 'bake-swap.service' 'bake-web.service' 'bake-jobs.service' 'bake-edge.service' 'bake-queue.1.service' )
# Of the disk that this one was made from, when that was baked as well.
for path in /etc/systemd/system/bake-*.service; do
  [ -e "$path" ] || continue
  unit=${path##*/}
  printf '%s\n' "${units[@]}" | grep -qxF -e "$unit" && continue
  systemctl --quiet disable "$unit" || true
  rm -f "$path"
done
rm -rf /usr/local/lib/bake
# What that one was swapped to.
rm -rf /var/lib/bake/swap

install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/bake/manifest.json' '/etc/bake/manifest.json'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-net.service' '/etc/systemd/system/bake-net.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-instance.service' '/etc/systemd/system/bake-instance.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-proof.service' '/etc/systemd/system/bake-proof.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-swap.service' '/etc/systemd/system/bake-swap.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-web.service' '/etc/systemd/system/bake-web.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-jobs.service' '/etc/systemd/system/bake-jobs.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-edge.service' '/etc/systemd/system/bake-edge.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/bake-queue.1.service' '/etc/systemd/system/bake-queue.1.service'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/systemd-networkd-wait-online.service.d/bake.conf' '/etc/systemd/system/systemd-networkd-wait-online.service.d/bake.conf'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/NetworkManager-wait-online.service.d/bake.conf' '/etc/systemd/system/NetworkManager-wait-online.service.d/bake.conf'
install -D --mode=0644 --owner=0 --group=0 "$kit"/files'/etc/systemd/system/ifupdown-wait-online.service.d/bake.conf' '/etc/systemd/system/ifupdown-wait-online.service.d/bake.conf'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/net' '/usr/local/lib/bake/net'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/instance' '/usr/local/lib/bake/instance'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/swap' '/usr/local/lib/bake/swap'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/health-web' '/usr/local/lib/bake/health-web'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/health-jobs' '/usr/local/lib/bake/health-jobs'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/health-edge' '/usr/local/lib/bake/health-edge'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/health-queue.1' '/usr/local/lib/bake/health-queue.1'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/aws-ask' '/usr/local/lib/bake/aws-ask'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/env-from' '/usr/local/lib/bake/env-from'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/lib/bake/proof' '/usr/local/lib/bake/proof'
install -D --mode=0755 --owner=0 --group=0 "$kit"/files'/usr/local/bin/bake-release' '/usr/local/bin/bake-release'

# Some distributions leave Docker's to whoever wants it; where it has a SysV script besides, asking first is faster.
systemctl --quiet is-enabled docker.service >/dev/null 2>&1 || units+=(docker.service)
# That makes a running system read the units as well.
systemctl --quiet enable "${units[@]}"
phase 'install end'
