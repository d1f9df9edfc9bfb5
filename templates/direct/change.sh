#!/bin/bash
# Changes a disk as a release wants it, in a chroot on it, with the disk's own engine: change.sh USER ROOTS MODE explain|quiet [PORT…]
# helper.sh starts it, as root, in mount and process namespaces of its own: whatever ends it takes mounts, loop devices, engine and network along.
# The working directory holds disk.qcow2, which is written, and kit/, the steps and what they need: both USER's, with whose rights alone they are opened.
# ROOTS are the places where the root file system may lie, TYPE:OFFSET:LENGTH with commas between them, ext4 or xfs, in bytes; the first one with a system on
# it is taken. MODE is first, when nothing of bake's is on the disk, or next. With explain, ./extents says where files lie that were changed. PORTs of this machine's loopback are the same in there.
# Prints `bake-phase: <name> begin|end` as it goes, `bake: <reason>` when a step fails, and `bake-unfit: <reason>`, with exit code 3, when the disk can't be
# changed so.
set -euo pipefail

stage=daemon
[ "$1" != --mounted ] || { stage=mounted; shift; }
user=$1 roots=$2 mode=$3 explain=$4
shift 4
ports=("$@")
# What is root's own lies where nobody else can put a link: a file system in memory, of these namespaces alone.
memory=/run/bake-disk
work=$memory$PWD
root=$work/root raw=$work/disk.raw net=$work/net
trap 'exit 143' TERM
trap 'exit 130' INT
# As the user; the daemon keeps the right to mount what it shows.
as=() as_daemon=() others=off
if [ "$(id -u -- "$user")" != 0 ]; then
  become=(setpriv --reuid="$user" --regid="$(id -g -- "$user")" --init-groups)
  as=("${become[@]}" --inh-caps=-all --bounding-set=-all --no-new-privs --)
  mounts='-all,+sys_admin'
  as_daemon=("${become[@]}" --inh-caps="$mounts" --ambient-caps="$mounts" --bounding-set="$mounts" --no-new-privs --)
  others=on
fi

phase() {
  [ -z "${running:-}" ] || echo "bake-phase: $running end"
  running=${1:-}
  [ -z "$running" ] || echo "bake-phase: $running begin"
}
unfit() {
  echo "bake-unfit: $*"
  exit 3
}
# until_there SECONDS PID COMMAND…: whether COMMAND succeeds while PID runs
until_there() {
  local left=$(($1 * 100)) pid=$2
  shift 2
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] && kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.01
  done
}

# The daemon must not be in the namespace that the disk is mounted in: killed with it, it would wait for itself to unmount it.
if [ "$stage" = daemon ]; then
  # Whose way there is closed has no business there, although root is there now.
  # shellcheck disable=SC2016 # the other shell's
  if [ "$("${as[@]}" sh -c 'cd -- "$0" && exec stat --format=%d:%i .' "$PWD" 2>/dev/null)" != "$(stat --format=%d:%i .)" ]; then
    echo "bake: user $user has no way to $PWD"
    exit 2
  fi
  mkdir -p "$memory"
  mount -t tmpfs -o mode=711,nosuid,noexec tmpfs "$memory"
  mkdir -p "$work"
  : >"$raw"
  if ! "${as[@]}" test -w /dev/fuse; then
    cp -a /dev/fuse "$work/fuse"
    chmod 666 "$work/fuse"
    mount --bind "$work/fuse" /dev/fuse
  fi
  # --- The disk: what is written goes to disk.qcow2, and what it holds is read as the raw file. Zeros take no room. No flush waits for this machine's
  # disk: whoever keeps the file does. ---
  quoted=${raw//\\/\\\\}
  quoted=${quoted//\"/\\\"}
  "${as_daemon[@]}" qemu-storage-daemon --blockdev '{"node-name":"disk","driver":"qcow2","discard":"unmap","detect-zeroes":"unmap","cache":{"no-flush":true},
  "file":{"driver":"file","filename":"disk.qcow2","cache":{"no-flush":true}}}' \
    --export '{"type":"fuse","id":"raw","node-name":"disk","mountpoint":"'"$quoted"'","writable":true,"allow-other":"'"$others"'"}' >"$work/daemon.log" 2>&1 &
  daemon=$!
  until_there 30 "$daemon" test -s "$raw" || unfit "qemu-storage-daemon doesn't show the disk: $(tail -n 1 "$work/daemon.log")"
  status=0
  unshare --mount --propagation private -- bash "$0" --mounted "$user" "$roots" "$mode" "$explain" "${ports[@]}" || status=$?
  kill -TERM "$daemon"
  wait "$daemon" || [ "$status" -ne 0 ] || status=1
  exit "$status"
fi

phase mount
mkdir -p "$root"
: >"$net"
# --- The network: of its own, because an engine in this machine's would change its bridge and its rules. ---
unshare --net="$net" true
inside() { nsenter --net="$net" -- "$@"; }
loopback=()
[ "${#ports[@]}" -gt 0 ] || loopback=(--disable-host-loopback)
slirp4netns --configure --mtu=65520 "${loopback[@]}" --netns-type=path "$net" tap0 >"$work/network.log" 2>&1 &
network=$!

# What is deleted is trimmed at once, so that only what changes is looked at. By offset: the kernels of some machines know no partition tables.
said='there is no system on its file systems'
for place in ${roots//,/ }; do
  IFS=: read -r type offset length <<<"$place"
  options=noatime,discard,nodev
  case $type in
    ext4) options+=,noinit_itable ;;
    xfs) options+=,nouuid ;;
  esac
  # A loop device that mount makes is gone with the mount.
  if ! why=$(mount -t "$type" -o "loop,offset=$offset,sizelimit=$length,$options" "$raw" "$root" 2>&1); then
    said="this kernel doesn't mount its $type: ${why##*: }"
    continue
  fi
  [ ! -x "$root/usr/bin/env" ] || [ ! -x "$root/bin/bash" ] || break
  umount "$root"
done
mountpoint --quiet "$root" || unfit "$said"
: >"$work/mounted"
# What takes longest is reading the engine's programs: in large pieces, and before they are started.
for path in "$raw" "$root"; do
  number=$(findmnt --noheadings --output MAJ:MIN --target "$path" | tail -n 1 | tr -d ' ')
  echo 4096 >"/sys/class/bdi/$number/read_ahead_kb" || true
done
for name in dockerd containerd docker; do
  for bin in "$root"/usr/sbin "$root"/usr/bin "$root"/usr/local/bin; do [ ! -f "$bin/$name" ] || cat "$bin/$name" >/dev/null & done
done
partition=$(findmnt --noheadings --output SOURCE --target "$root")

while read -r _ where fs _; do
  case $fs in ext[234] | xfs | btrfs | f2fs) ;; *) continue ;; esac
  case $where in / | /boot | /boot/*) ;; *) unfit "$where is on a file system of its own" ;; esac
done < <(grep -v '^[[:space:]]*#' "$root/etc/fstab" 2>/dev/null || true)
! grep -qsE '^SELINUX=enforcing' "$root/etc/selinux/config" || unfit 'SELinux enforces there, and this kernel gives files no labels'

# What is written outside of the chroot must not be led out of the disk.
for name in etc proc sys dev run tmp; do
  if [ -L "$root/$name" ] || [ ! -d "$root/$name" ]; then unfit "its /$name is no directory"; fi
done
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mount -t tmpfs -o mode=755,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nodev tmpfs "$root/tmp"
for node in null zero full random urandom tty "${partition##*/}"; do cp -a "/dev/$node" "$root/dev/"; done
: >"$root/dev/bake-disk"
mount --bind "$raw" "$root/dev/bake-disk"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0 1 2; do ln -s "fd/$n" "$root/dev/std$(cut -d ' ' -f $((n + 1)) <<<'in out err')"; done
mkdir -p "$root/dev/shm" "$root/dev/pts" "$root/run/lock"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts" && ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/run/bake-bake"
"${as[@]}" tar --create --file=- --dereference --directory=kit . | tar --extract --file=- --no-same-owner --preserve-permissions --directory="$root/run/bake-bake"
# Names are asked of the network's own server; the disk's file stays as it is.
resolv=$root/etc/resolv.conf
if [ -L "$resolv" ]; then
  target=$(readlink "$resolv")
  case $target in ../run/* | ../../run/* | /run/*) target=${target#*run/} ;; *) target=.. ;; esac
  [[ /$target/ == */../* ]] || resolv=$root/run/$target
  mkdir -p "$(dirname "$resolv")"
  [ -L "$resolv" ] || echo 'nameserver 10.0.2.3' >"$resolv"
elif [ -f "$resolv" ]; then
  echo 'nameserver 10.0.2.3' >"$work/resolv.conf"
  mount --bind "$work/resolv.conf" "$resolv"
fi

connected() { [ "$(inside cat /sys/class/net/tap0/operstate 2>/dev/null)" = unknown ] || grep -q 'received tapfd' "$work/network.log"; }
until_there 10 "$network" connected || unfit "slirp4netns doesn't start: $(tail -n 1 "$work/network.log")"
echo 1 | inside tee /proc/sys/net/ipv4/conf/all/route_localnet >/dev/null
for port in "${ports[@]}"; do
  inside iptables -w -t nat -A OUTPUT -d 127.0.0.0/8 -p tcp --dport "$port" -j DNAT --to-destination "10.0.2.2:$port"
  inside iptables -w -A OUTPUT -d 10.0.2.2 -p tcp --dport "$port" -j ACCEPT
done
[ "${#ports[@]}" = 0 ] || inside iptables -w -t nat -A POSTROUTING -d 10.0.2.2 -j MASQUERADE
inside iptables -w -A OUTPUT -d 10.0.2.2 -j REJECT
# Whoever runs here isn't asked who it is: instance metadata is another machine's.
inside iptables -w -A OUTPUT -d 169.254.0.0/16 -j REJECT

phase engine
chrooted=(
  nsenter --net="$net" -- chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
  BAKE_DISK=/dev/bake-disk BAKE_PARTITION="$partition"
)
"${chrooted[@]}" /bin/bash -c 'command -v dockerd && command -v docker' >/dev/null || unfit 'it has no Docker Engine'
# A flag and the same setting in daemon.json exclude each other.
settings=$root/etc/docker/daemon.json
flags=(--iptables=false --ip6tables=false --bridge=none --containerd=/run/containerd/containerd.sock)
for name in iptables ip6tables bridge containerd; do
  ! grep -qsF -e "\"$name\"" "$settings" || for n in "${!flags[@]}"; do [[ ${flags[n]} != --$name=* ]] || unset "flags[n]"; done
done
! grep -qsE -- '--(data-root|graph)\b' "$root"/{etc,usr/lib,lib}/systemd/system/docker.service{,.d/*.conf} "$root"/etc/{default,sysconfig}/docker ||
  unfit "its engine's data root is a flag of its unit"
engine=() containerd=()
if "${chrooted[@]}" /bin/bash -c 'command -v containerd' >/dev/null; then
  "${chrooted[@]}" containerd >"$work/containerd.log" 2>&1 &
  containerd=($!)
  until_there 30 "${containerd[0]}" test -S "$root/run/containerd/containerd.sock" || unfit "its containerd doesn't start: $(tail -n 1 "$work/containerd.log")"
fi
"${chrooted[@]}" dockerd "${flags[@]}" >"$work/engine.log" 2>&1 &
engine=($!)
until_there 60 "${engine[0]}" grep -qF 'API listen on' "$work/engine.log" ||
  unfit "its engine doesn't start in a chroot: $(grep -v 'level=info' "$work/engine.log" | tail -n 1)"

phase
# What was done to the disk is in its file then, also when a step failed and somebody wants to look into it.
close() {
  local pid
  for pid in "${engine[@]}" "${containerd[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" || true
  done
  # Each says whether something that was written before got lost.
  sync --file-system "$root" && umount --recursive "$root" && sync "$raw"
}
lost() {
  echo "bake: what was written to the disk got lost; $(df --output=avail -h . | tail -n 1 | tr -d ' ') are free in $PWD"
  exit 1
}
step() {
  "${chrooted[@]}" "${@:2}" /bin/bash -euo pipefail "/run/bake-bake/steps/$1.sh" </dev/null && return
  close || true
  exit 1
}
for name in prepare images install setup rehearse; do
  if [ "$name" = setup ] && [ "$mode" = next ]; then continue; fi
  step "$name"
done

phase stop
kill -TERM "${engine[@]}"
wait "${engine[@]}" || true
[ "${#containerd[@]}" = 0 ] || { kill -TERM "${containerd[@]}"; wait "${containerd[@]}" || true; }
engine=() containerd=()
phase

# opened_by_user PATH: a process of the user's, `opener`, has it open as 3
opened_by_user() {
  : >"$work/opened"
  # shellcheck disable=SC2016 # the other shell's
  "${as[@]}" sh -c 'exec 3<"$0" && echo yes && exec sleep 60' "$1" >"$work/opened" 2>/dev/null &
  opener=$!
  until_there 10 "$opener" test -s "$work/opened"
}
# What is on the disk; later, what was written to it now. Nothing that reads as zeros. What is as it was in the base is read there, which is twice as fast.
ranges() {
  if ! sync --file-system "$root" || ! sync "$raw"; then lost; fi
  local written='s/^.*"start": ([0-9]+), "length": ([0-9]+), "depth": 0,.*"data": true.*$/\1 \2/p' others='' base=''
  if [ "$mode" = first ]; then
    others='s/^.*"start": ([0-9]+), "length": ([0-9]+), .*"data": true.*$/\1 \2/p'
    base=$("${as[@]}" qemu-img info -U --output=json disk.qcow2 | sed -n -E 's/^.*"full-backing-filename": "([^"\\]*)",?$/\1/p')
  fi
  if [ -f "$base" ] && opened_by_user "$base"; then
    others=${others/'\2/p'/'\2 base/p'}
    : >"$root/dev/bake-base"
    mount --no-canonicalize --bind "/proc/$opener/fd/3" "$root/dev/bake-base"
    mount -o remount,bind,ro "$root/dev/bake-base"
    kill "$opener"
  fi
  "${as[@]}" qemu-img map -U --output=json disk.qcow2 | sed -n -E -e "$written" -e t ${others:+-e "$others"} >"$root/run/bake-bake/ranges"
}
if [ "$mode" = next ]; then step clean BAKE_TRIMMED=yes; else step clean; fi
ranges
# It has to lie on this machine's disk in the end: in the meantime it can begin to.
"${as[@]}" sync --data disk.qcow2 2>/dev/null &
step scan BAKE_RANGES=/run/bake-bake/ranges BAKE_BASE=/dev/bake-base

if [ "$explain" = explain ]; then
  phase explain
  {
    echo "offset $offset"
    cd "$root"
    { find . -xdev \( -type f -o -type d \) -newercm "$work/mounted" -print0 | xargs -0 -r filefrag -v -b512 2>/dev/null || true; } |
      sed -e 's,^File size of \.,File size of ,'
  } | "${as[@]}" tee extents >/dev/null
fi

phase unmount
close || lost
phase
