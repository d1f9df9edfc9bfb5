#!/bin/bash
# Milliseconds that the engine of a disk takes for pulling images into its own store, on a plain copy of the disk: engine-alone.sh DISK OFFSET PORT IMAGE…
# Leaves DISK.alone. The network is the direct baker's (templates/direct/change.sh), so that the registry is as far away.
set -euo pipefail
if [ "$1" != --inside ]; then exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- bash "$0" --inside "$@"; fi
disk=$2 offset=$3 port=$4
shift 4
work=$disk.alone
root=$work/root net=$work/net
mkdir -p "$root"
: >"$net"
unshare --net="$net" true
inside() { nsenter --net="$net" -- "$@"; }
slirp4netns --configure --mtu=65520 --netns-type=path "$net" tap0 >"$work/log" 2>&1 &
mount -o "loop,offset=$offset,noatime,discard" "$disk" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
until grep -q 'received tapfd' "$work/log"; do sleep 0.01; done
echo 1 | inside tee /proc/sys/net/ipv4/conf/all/route_localnet >/dev/null
inside iptables -w -t nat -A OUTPUT -d 127.0.0.0/8 -p tcp --dport "$port" -j DNAT --to-destination "10.0.2.2:$port"
inside iptables -w -t nat -A POSTROUTING -d 10.0.2.2 -j MASQUERADE
chrooted=(nsenter --net="$net" -- chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)
"${chrooted[@]}" containerd >"$work/log" 2>&1 &
until [ -S "$root/run/containerd/containerd.sock" ]; do sleep 0.01; done
"${chrooted[@]}" dockerd --iptables=false --ip6tables=false --bridge=none --containerd=/run/containerd/containerd.sock >"$work/engine" 2>&1 &
until grep -qsF 'API listen on' "$work/engine"; do sleep 0.01; done
began=$(date +%s%N)
for image in "$@"; do "${chrooted[@]}" docker pull --quiet "$image" >/dev/null; done
echo $((($(date +%s%N) - began) / 1000000))
# What was mounted and started goes with the namespaces.
exit 0
