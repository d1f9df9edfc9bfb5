#!/bin/bash
# A bootable disk with Debian 12 and Docker, from distribution packages: debian.sh DISK BYTES PACKAGE_LIST
# Run by `bake base` as root. Works in mount and process namespaces of its own: whatever ends it, kill -9 included, takes its mounts and its loop
# device along. Prints `bake-phase: <name> begin|end` as it goes. BAKE_DEBIAN_MIRROR names a mirror when this machine's apt knows none.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- bash "$0" --inside "$@"
fi
disk=$2 bytes=$3 package_list=$4
root=$disk.root
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Sectors of 512 bytes. 1 MiB is where every tool begins the first partition.
start=2048

packages=(
  systemd-sysv udev kmod dbus systemd-resolved iproute2 e2fsprogs linux-image-cloud-amd64 zstd
  openssh-server docker.io apparmor iptables nftables ca-certificates curl
)

phase() {
  [ -z "${running:-}" ] || echo "bake-phase: $running end"
  running=${1:-}
  [ -z "$running" ] || echo "bake-phase: $running begin"
}
undo() {
  local status=$?
  trap - EXIT
  mountpoint --quiet "$root" && umount --recursive "$root"
  exit "$status"
}
trap undo EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# From where this machine has its own Debian packages; where it has none, mmdebstrap's own choice.
sources() {
  if [ -n "${BAKE_DEBIAN_MIRROR:-}" ]; then
    echo "deb [signed-by=$keyring] $BAKE_DEBIAN_MIRROR $suite main"
    return
  fi
  local uri release own
  own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  { apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null || true; } |
    sort -u | while read -r uri release; do
      # A later Debian's mirrors have this one too.
      case $release in
        "$suite" | "$suite"-updates | "$suite"-security) ;;
        "$own" | "$own"-updates | "$own"-security) release=$suite${release#"$own"} ;;
        *) continue ;;
      esac
      echo "deb [signed-by=$keyring] $uri $release main"
    done | sort -u
}

# One active partition of type Linux from 1 MiB on; the addresses in cylinders say "look at the sectors".
partition_table() {
  local sectors=$((bytes / 512 - start))
  le32() { printf '\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
  printf '%b' "\\x80\\xfe\\xff\\xff\\x83\\xfe\\xff\\xff$(le32 "$start")$(le32 "$sectors")"
}

phase disk
truncate --size="$bytes" "$disk"
# extlinux reads no 64-bit ext4.
mkfs.ext4 -q -F -L root -O '^64bit' -m 1 -E "offset=$((start * 512)),lazy_itable_init=0,lazy_journal_init=0" "$disk" "$((bytes / 1024 - start / 2))k"
mkdir -p "$root"
# The kernels of some build machines know no partition tables. A loop device that mount makes is gone with the mount.
mount -o "loop,offset=$((start * 512)),sizelimit=$((bytes - start * 512))" "$disk" "$root"

phase packages
trim=()
for directory in doc man info locale lintian; do trim+=("--dpkgopt=path-exclude=/usr/share/$directory/*"); done
mapfile -t from < <(sources)
mmdebstrap --mode=root --variant=minbase --format=directory --include="$(IFS=,; echo "${packages[*]}")" \
  --keyring="$keyring" --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' \
  --dpkgopt=force-unsafe-io "${trim[@]}" --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  "$suite" "$root" "${from[@]}"

phase configure
chroot "$root" dpkg-query --show >"$package_list"
echo 'LABEL=root / ext4 errors=remount-ro,discard 0 1' >"$root/etc/fstab"
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/50-dhcp.network"
# Each machine makes its own at its first start, and only the one that is made at once: emulated, an RSA key takes half a minute.
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/etc/systemd/system/ssh.service.d"
cat >"$root/etc/systemd/system/ssh.service.d/host-key.conf" <<'UNIT'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
UNIT
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved ssh docker
# Docker needs no network to start, and this one would hold it up for two minutes where there is none.
chroot "$root" systemctl --quiet disable systemd-networkd-wait-online.service
# Nothing is fetched at boot: what a machine has is decided when it is baked. And there is no LVM to scrub.
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
: >"$root/etc/machine-id"

phase boot
mkdir -p "$root/boot/extlinux"
cat >"$root/boot/extlinux/extlinux.conf" <<'CONF'
DEFAULT linux
PROMPT 0
SERIAL 0 115200
LABEL linux
  LINUX /vmlinuz
  INITRD /initrd.img
  APPEND root=LABEL=root ro console=tty0 console=ttyS0,115200n8 panic=10
CONF
extlinux --install "$root/boot/extlinux"
# The first 440 bytes: what a BIOS runs. It starts the active partition.
dd if=/usr/lib/EXTLINUX/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
partition_table | dd of="$disk" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$disk" bs=1 seek=510 conv=notrunc status=none

phase finish
# What was deleted takes no room in the file.
fstrim "$root" || true
umount "$root"
rmdir "$root"
sync "$disk"
phase
