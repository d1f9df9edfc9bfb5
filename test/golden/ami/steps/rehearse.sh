#!/bin/bash
# Starts everything on this machine with the network cut, as it will start from the disk, and takes every trace of that away again.
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

phase 'rehearse begin'
if ! live; then
  echo 'no system runs here: the proof is the first start'
  phase 'rehearse end'
  exit 0
fi
services=( 'bake-web.service' 'bake-jobs.service' 'bake-edge.service' 'bake-queue.1.service' )
# At which the network comes back, whatever becomes of this script.
limit=1090

# --- What is there, before and after. Left out is what the system writes by itself. ---
listing() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/cache \
    -o -path /var/lib/docker -o -path /var/lib/containerd -o -path /var/lib/systemd -o -path /var/lib/dhcp -o -path /var/lib/dhclient \
    -o -path /var/lib/NetworkManager -o -path /var/lib/chrony -o -path /var/lib/ntp -o -path /var/lib/cloud -o -path /var/lib/amazon \
    -o -path /var/lib/private -o -path /var/lib/logrotate -o -path /root/.cache \) -prune -o -printf '%y %p\n'
  docker image ls --all --quiet --no-trunc | sed 's/^/image /'
  docker volume ls --quiet | sed 's/^/volume /'
  docker container ls --all --quiet --no-trunc | sed 's/^/container /'
}

# --- Volumes: what services write there is gone afterwards. ---
mounted=() made=() volumes=()
# Over a directory that is there lies a layer in memory; one that isn't there is made in memory.
cover() {
  local layer
  if [ -d "$1" ]; then
    layer=$kit/layers/${#mounted[@]}
    mkdir -p "$layer/upper" "$layer/work"
    chown --reference="$1" "$layer/upper"
    chmod --reference="$1" "$layer/upper"
    mount -t overlay -o "lowerdir=$(escaped "$1"),upperdir=$layer/upper,workdir=$layer/work" overlay "$1"
  elif [ ! -e "$1" ]; then
    missing "$1"
    mount -t tmpfs -o mode=755 tmpfs "$1"
  else
    # A file or a socket.
    return 0
  fi
  mounted+=("$1")
}
escaped() {
  local path=${1//\\/\\\\}
  path=${path//:/\\:}
  printf '%s' "${path//,/\\,}"
}
missing() {
  [ ! -d "$1" ] || return 0
  missing "$(dirname "$1")"
  mkdir "$1"
  made+=("$1")
}
volume() {
  local path
  if path=$(docker volume inspect --format '{{.Mountpoint}}' "$1" 2>/dev/null); then
    cover "$path"
  else
    docker volume create --driver local --opt type=tmpfs --opt device=tmpfs "$1" >/dev/null
    volumes+=("$1")
  fi
}

# --- The network: a table of its own, because containers get past rules for output alone. ---
ports=$({ sshd -T 2>/dev/null | sed -n 's/^port //p'; echo "${SSH_CONNECTION:-}" | cut -s -d ' ' -f 4; echo 22; } | grep -E '^[0-9]+$' | sort -un | paste -s -d ,)
cat >"$kit/uncut" <<'SH'
#!/bin/bash
if command -v nft >/dev/null; then nft delete table inet bake_rehearsal 2>/dev/null; exit 0; fi
for tool in iptables ip6tables; do
  for chain in INPUT OUTPUT FORWARD; do
    "$tool" -w -t mangle -D "$chain" -j "BAKE_$chain"
    "$tool" -w -t mangle -F "BAKE_$chain"
    "$tool" -w -t mangle -X "BAKE_$chain"
  done
done 2>/dev/null
exit 0
SH
cut_with_nft() {
  nft -f - <<NFT
table inet bake_rehearsal {
  chain containers {
    oifname "docker*" accept
    oifname "br-*" accept
  }
  chain input {
    type filter hook input priority -300; policy drop;
    iifname "lo" accept
    iifname "docker*" accept
    iifname "br-*" accept
    ip saddr 169.254.169.254 accept
    ip6 saddr fd00:ec2::254 accept
    meta l4proto ipv6-icmp accept
    tcp dport { $ports } accept
  }
  chain output {
    type filter hook output priority -300; policy drop;
    oifname "lo" accept
    jump containers
    ip daddr 169.254.169.254 accept
    ip6 daddr fd00:ec2::254 accept
    meta l4proto ipv6-icmp accept
    tcp sport { $ports } accept
  }
  chain forward {
    type filter hook forward priority -300; policy drop;
    iifname "docker*" jump containers
    iifname "br-*" jump containers
    ip daddr 169.254.169.254 accept
    ip saddr 169.254.169.254 accept
    ip6 daddr fd00:ec2::254 accept
    ip6 saddr fd00:ec2::254 accept
  }
}
NFT
}
# Where docker never writes, so that its restart doesn't get before it.
cut_with_iptables() {
  local tool imds chain
  for tool in iptables ip6tables; do
    if [ "$tool" = iptables ]; then imds=169.254.169.254; else imds=fd00:ec2::254; fi
    rule() { "$tool" -w -t mangle "$@"; }
    for chain in INPUT OUTPUT FORWARD; do rule -N "BAKE_$chain"; done
    rule -A BAKE_INPUT -i lo -j RETURN
    rule -A BAKE_INPUT -i docker+ -j RETURN
    rule -A BAKE_INPUT -i br-+ -j RETURN
    rule -A BAKE_INPUT -s "$imds" -j RETURN
    rule -A BAKE_INPUT -p tcp -m multiport --dports "$ports" -j RETURN
    rule -A BAKE_OUTPUT -o lo -j RETURN
    rule -A BAKE_OUTPUT -o docker+ -j RETURN
    rule -A BAKE_OUTPUT -o br-+ -j RETURN
    rule -A BAKE_OUTPUT -d "$imds" -j RETURN
    rule -A BAKE_OUTPUT -p tcp -m multiport --sports "$ports" -j RETURN
    for from in docker+ br-+; do for to in docker+ br-+; do rule -A BAKE_FORWARD -i "$from" -o "$to" -j RETURN; done; done
    rule -A BAKE_FORWARD -s "$imds" -j RETURN
    rule -A BAKE_FORWARD -d "$imds" -j RETURN
    for chain in INPUT OUTPUT FORWARD; do
      [ "$tool" = iptables ] || rule -A "BAKE_$chain" -p ipv6-icmp -j RETURN
      rule -A "BAKE_$chain" -j DROP
      rule -I "$chain" 1 -j "BAKE_$chain"
    done
  done
}

# --- Back to what was. Also when something fails. ---
undone=no
undo() {
  [ "$undone" = no ] || return 0
  undone=yes
  # Nothing of theirs is kept: what doesn't listen to SIGTERM would take docker's 10 s, one after the other.
  systemctl --quiet stop --no-block "${services[@]}" 2>/dev/null || true
  local containers index
  for index in {1..100}; do
    containers=$(docker container ls --quiet --filter 'name=^/bake-')
    [ -n "$containers" ] || break
    xargs docker kill >/dev/null 2>&1 <<<"$containers" || true
    sleep 0.2
  done
  systemctl --quiet stop "${services[@]}" bake-proof.service bake-instance.service bake-net.service 2>/dev/null || true
  systemctl reset-failed "${services[@]}" 2>/dev/null || true
  [ ! -e "$kit/proof.sh" ] || bash "$kit/proof.sh" stop || true
  # Docker removes a container only after it has told that it ended.
  for index in {1..50}; do
    [ -n "$(docker container ls --all --quiet --filter 'name=^/bake-')" ] || break
    sleep 0.2
  done
  for ((index = ${#mounted[@]} - 1; index >= 0; index--)); do umount "${mounted[index]}" || true; done
  for ((index = ${#made[@]} - 1; index >= 0; index--)); do rmdir "${made[index]}" || true; done
  [ "${#volumes[@]}" -eq 0 ] || docker volume rm "${volumes[@]}" >/dev/null || true
  bash "$kit/uncut"
  systemctl --quiet stop bake-uncut.timer 2>/dev/null || true
  rm -rf /run/bake "$kit/layers"
}
trap undo EXIT

listing | sort >"$kit/before"
cover '/var/lib/shop'
volume 'cache'
systemd-run --quiet --collect --unit=bake-uncut --on-active="$limit" /bin/bash "$kit/uncut"
if command -v nft >/dev/null; then cut_with_nft; else cut_with_iptables; fi

systemctl restart docker.service
if [ -e "$kit/proof.sh" ]; then bash "$kit/proof.sh" start; fi
[ "${#services[@]}" -eq 0 ] || systemctl start --no-block "${services[@]}"
well=yes
/usr/local/lib/bake/proof check | tee "$kit/checked" || well=no
undo
trap - EXIT
# Once more, where the last lines are looked at.
[ "$well" = yes ] || sed -n 's/^[^ :]*: failed[:,] /bake: &/p' "$kit/checked" >&2
[ "$well" = yes ] || fail 'not every service starts without a network (see above); stand-ins for what they need: services.*.proof in bake.yaml'

listing | sort >"$kit/after"
# What only stood in was there before, and goes now.
if [ -e "$kit/stand-ins" ]; then
  while read -r image; do docker image rm "$image" >/dev/null || true; done <"$kit/stand-ins"
fi
if ! diff "$kit/before" "$kit/after" | grep '^[<>]' >"$kit/difference"; then
  phase 'rehearse end'
  exit 0
fi
sed -e 's/^< . /gone: /' -e 's/^> . /left behind: /' "$kit/difference" | head -n 20 >&2
fail 'the services changed what is on the disk: write to volumes, or to nothing'
