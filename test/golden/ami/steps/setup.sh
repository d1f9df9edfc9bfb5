#!/bin/bash
# Runs the scripts of machine.setup, and looks at what they leave on the raw disk: what they wrote and deleted again is still there.
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
# Finds secrets on a raw disk, in deleted files too: private keys with a body, AWS access key ids, docker's login material.
work=${work:-$kit/scan}
mkdir -p "$work"

# The block device with the file system that / is on: all of it, not only the partition.
disk_of_root() {
  local source path
  if [ -n "${BAKE_DISK-}" ]; then echo "$BAKE_DISK"; return; fi
  path=$(readlink -f "/sys/dev/block/$(findmnt --noheadings --output MAJ:MIN --target / | tail -n 1 | tr -d ' ')")
  if [ ! -e "$path/uevent" ]; then
    # btrfs has a device number of its own.
    source=$(findmnt --noheadings --output SOURCE --target / | tail -n 1)
    source=${source%%\[*}
    [ -b "$source" ] || return 1
    path=$(readlink -f "/sys/class/block/$(basename "$(readlink -f "$source")")")
  fi
  [ ! -e "$path/partition" ] || path=$(dirname "$path")
  sed -n 's,^DEVNAME=,/dev/,p' "$path/uevent"
}

# secrets_on DISK: a line KIND NEEDLE OFFSET for each secret on it. The needle stands in one line of its file. Piece by piece, in memory and past the page
# cache: zeros, which most of a disk is, are told by dd as it reads, and would be one long line to grep. BAKE_RANGES names a file of lines OFFSET LENGTH,
# ascending: what else is on the disk isn't looked at. What has a third word is the same in the file BAKE_BASE, which is read faster.
secrets_on() {
  local disk=$1 piece=$((32 * 1048576)) size base offset match
  local LC_ALL=C
  # What was written is on the disk then, and what was read before is read anew.
  settle
  if [ -b "$disk" ]; then
    blockdev --flushbufs "$disk"
    size=$(blockdev --getsize64 "$disk")
  else
    size=$(stat --dereference --format=%s "$disk")
  fi
  if [ -n "${BAKE_RANGES-}" ]; then
    secrets_in_ranges
    return
  fi
  for ((base = 0; base < size; base += piece)); do
    # With the first of what the next one has as well: a secret may lie across.
    dd if="$disk" of="$work/piece" bs=1M skip=$((base / 1048576)) count=$((piece / 1048576 + 1)) iflag=direct conv=sparse status=none
    [ "$(stat --format=%b "$work/piece")" -gt 0 ] || continue
    while IFS=: read -r offset match; do
      [ "$offset" -ge "$piece" ] || ! secret_at $((base + offset)) "$match" || echo "$kind $needle $((base + offset))"
    done < <(suspects "$work/piece")
  done
  rm -f "$work/piece"
}
# suspects FILE: lines OFFSET:MATCH of what is in it and looks like a secret
suspects() {
  grep -aboE -e '-----BEGIN ([A-Z0-9]+ ){0,2}PRIVATE KEY( BLOCK)?-----' -e 'A[KS]IA[A-Z0-9]{16}' \
    -e '"(auth|identitytoken|registrytoken)"[[:space:]]*:[[:space:]]*"[A-Za-z0-9+/=_.-]{8,}"' -- "$1" || true
}
# secrets_in_ranges: of what BAKE_RANGES names, by as many as there are processors
secrets_in_ranges() {
  local parts source part parted=()
  parts=$(nproc 2>/dev/null || echo 1)
  rm -f "$work"/ranges-*
  { grep -E '^[0-9]+ [0-9]+$' "$BAKE_RANGES" || true; } | in_parts disk
  { grep -E '^[0-9]+ [0-9]+ ' "$BAKE_RANGES" || true; } | in_parts base
  for source in disk base; do
    for part in "$work/ranges-$source"-*; do
      [ -e "$part" ] || continue
      parted+=("$part")
      { secrets_in "$part" $source >"$part.secrets" && touch "$part.whole"; } &
    done
  done
  wait
  for part in "${parted[@]}"; do
    [ -e "$part.whole" ] || fail 'the disk could not be read'
    cat "$part.secrets"
  done
  rm -f "$work"/ranges-*
}
# in_parts SOURCE: the ranges on stdin as files that are as large as each other, $work/ranges-SOURCE-N
in_parts() {
  local all=$work/ranges-$1 sum=0 start length
  cat >"$all"
  while read -r _ length _; do sum=$((sum + length)); done <"$all"
  local each=$((sum / parts + 1))
  sum=0
  while read -r start length _; do
    echo "$start $length" >>"$all-$((sum / each))"
    sum=$((sum + length))
  done <"$all"
}
# secrets_in RANGES disk|base: with what lies around them: a secret may begin before what was written
secrets_in() {
  local around=65536 start length end from=0 to=0 filled=0 froms=() ats=()
  local source=$2 file=$1.piece path=$disk size=$size
  if [ "$source" = base ]; then path=${BAKE_BASE:?} size=$(stat --dereference --format=%s "$BAKE_BASE"); fi
  : >"$file"
  while read -r start length; do
    # Whole 64 KiB: ranges that lie close to each other become one.
    start=$((start / around * around - around)) end=$(((start + length + around - 1) / around * around + around))
    [ "$start" -ge 0 ] || start=0
    if [ "$start" -le "$to" ] && [ "$to" -gt 0 ]; then
      [ "$end" -le "$to" ] || to=$end
      continue
    fi
    take_range
    from=$start to=$end
  done <"$1"
  take_range
  tell_ranges
  rm -f "$file"
}
# take_range: puts FROM to TO behind what is in the piece, and looks at it when that is enough
take_range() {
  local count flags=skip_bytes,count_bytes
  [ "$source" = base ] || flags+=,direct
  [ "$to" -le "$size" ] || to=$size
  while [ "$from" -lt "$to" ]; do
    count=$((to - from))
    [ "$count" -le "$piece" ] || count=$piece
    froms+=("$from") ats+=("$filled")
    dd if="$path" bs=1M iflag="$flags" skip="$from" count="$count" status=none >>"$file"
    # No line of what follows belongs to what is before it.
    printf '\n' >>"$file"
    filled=$((filled + count + 1))
    [ "$filled" -lt "$piece" ] || tell_ranges
    # What is left of a long one begins with the end of what was looked at.
    if [ $((from + count)) -lt "$to" ]; then from=$((from + count - around)); else from=$to; fi
  done
}
tell_ranges() {
  local offset match n=0
  while IFS=: read -r offset match; do
    while [ $((n + 1)) -lt "${#ats[@]}" ] && [ "${ats[n + 1]}" -le "$offset" ]; do n=$((n + 1)); done
    offset=$((froms[n] + offset - ats[n]))
    # Around what the disk has of its base lies what it has no more.
    [ "$source" = disk ] || [[ $(bytes "$offset" "${#match}") == "$match"* ]] || continue
    ! secret_at "$offset" "$match" || echo "$kind $needle $offset"
  done < <(suspects "$file")
  : >"$file"
  filled=0 froms=() ats=()
}
# bytes OFFSET COUNT: of the disk, as lines where NULs were
bytes() { dd if="$disk" bs=4096 iflag=skip_bytes,count_bytes skip="$1" count="$2" status=none | tr '\0' '\n' && echo .; }

# secret_at OFFSET MATCH: whether it is one; its kind and needle
secret_at() {
  local text
  kind='' needle=''
  case $2 in
    A[KS]IA*EXAMPLE) return 1 ;;
    A[KS]IA*)
      # Not in the middle of a longer word. A file begins with a sector, whatever lies before that.
      text=.
      [ "$1" -eq 0 ] || text=$(bytes $(($1 - 1)) 22)
      [[ $(($1 % 512)) -ne 0 && ${text:0:1} == [A-Za-z0-9/+] ]] && return 1
      [[ $((($1 + 20) % 512)) -ne 0 && ${text:21:1} == [A-Za-z0-9/+] ]] && return 1
      kind=aws-key needle=$2
      ;;
    -----BEGIN*)
      text=$(bytes $(($1 + ${#2})) 2000)
      kind=private-key
      key_body "${text%.}"
      ;;
    *)
      needle=${2%\"} needle=${needle##*\"}
      kind=docker-login
      # name:password, else it is some other word. Tokens are long.
      case $2 in
        '"auth"'*) [[ $(base64 --decode <<<"$needle" 2>/dev/null | tr '\0' '\n') =~ ^[[:print:]]+:[[:print:]]+$ ]] ;;
        *) [ "${#needle}" -ge 20 ] ;;
      esac
      ;;
  esac
}

# key_body TEXT: whether a key follows its first line; needle is a line of it. Keys of one kind begin alike, so it is the second one if there is one.
key_body() {
  local line length=0 lines=0
  local text=${1//\\n/$'\n'}
  text=${text//\\r/}
  needle=''
  while IFS= read -r line; do
    line=${line%$'\r'}
    line=${line//[[:blank:]\"\',]/}
    case $line in
      '' | *:*)
        # Settings of an encrypted one come first.
        [ "$lines" -eq 0 ] || break
        continue
        ;;
      *[!A-Za-z0-9+/=]*)
        # The disk goes on with something else: what comes first may still be the key's.
        line=${line%%[!A-Za-z0-9+/=]*}
        [ "$lines" -lt 2 ] && [ "${#line}" -ge 40 ] && { needle=$line length=$((length + ${#line})); }
        break
        ;;
    esac
    lines=$((lines + 1)) length=$((length + ${#line}))
    [ "$lines" -gt 2 ] || [ "${#line}" -lt 16 ] || needle=$line
    [ "$length" -lt 400 ] || break
  done <<<"$text"
  needle=${needle:0:64}
  [ "$length" -ge 64 ] && [ "${#needle}" -ge 16 ]
}

# new_of BEFORE AFTER: what AFTER has more
new_of() {
  local kind needle offset
  local -A known=()
  while read -r kind needle _; do known[$kind $needle]=1; done <"$1"
  while read -r kind needle offset; do [ -n "${known[$kind $needle]-}" ] || echo "$kind $needle $offset"; done <"$2"
}

# file_systems DISK: where those that are on it are mounted
file_systems() {
  local own target number source
  # In a chroot a partition may be a block device of its own.
  own=$(cat "/sys/class/block/${1##*/}/dev" "/sys/class/block/${1##*/}"/*/dev ${BAKE_PARTITION:+"/sys/class/block/${BAKE_PARTITION##*/}/dev"} 2>/dev/null || true)
  findmnt --raw --noheadings --output TARGET,MAJ:MIN,SOURCE --types ext2,ext3,ext4,xfs,btrfs,f2fs,vfat | while read -r target number source; do
    case $number in
      # btrfs has a device number of its own.
      0:*) number=$(cat "/sys/class/block/$(basename "$(readlink -f "${source%%\[*}")")/dev" 2>/dev/null || true) ;;
    esac
    ! grep -qxF -e "$number" <<<"$own" || printf '%b\n' "$target"
  done | sort -u
}

# Not left behind, but what was asked for: images' content; what a package of the distribution brings for everybody.
is_content() {
  local root
  for root in "$(cat "$kit/docker-root" 2>/dev/null || echo /var/lib/docker)" /var/lib/docker /var/lib/containerd; do
    case $1 in
      "$root"/volumes/* | "$root"/containers/*) return 1 ;;
      "$root"/*) return 0 ;;
    esac
  done
  case $1 in
    # Worthless by its name.
    /etc/ssl/private/ssl-cert-snakeoil.key) return 0 ;;
    # Gone when the step `clean` is done.
    /etc/ssh/ssh_host_*) [ "$2" = setup ]; return ;;
  esac
  unchanged "$1"
}

# unchanged PATH: whether it is as its package brought it
unchanged() {
  local path said
  if command -v dpkg-query >/dev/null; then
    # Some are named as they were before /usr was merged.
    for path in "$1" "${1#/usr}"; do
      said=$(dpkg-query --search "$path" 2>/dev/null | grep -F -e ": $path" | head -n 1) || continue
      said=${said%": $path"}
      said=$(dpkg --verify "${said%%,*}" 2>/dev/null) || true
      [[ $said != *" $path"* ]]
      return
    done
  fi
  command -v rpm >/dev/null && rpm --query --file "$1" >/dev/null 2>&1 || return 1
  said=$(rpm --verify --file "$1" 2>/dev/null) || true
  ! grep -qE '^..5' <<<"$(grep -F -e " $1" <<<"$said")"
}

# stores: directories that are images' content and nothing else
stores() {
  local root path
  { cat "$kit/docker-root" 2>/dev/null || true; echo /var/lib/docker; } | sort -u | while IFS= read -r root; do
    for path in "$root"/overlay2 "$root"/image "$root"/fuse-overlayfs "$root"/vfs; do [ ! -d "$path" ] || echo "$path"; done
  done
  [ ! -d /var/lib/containerd ] || echo /var/lib/containerd
}
# holding NEEDLES: which of the files on stdin hold one, by as many as there are processors
holding() { xargs -0 -r -P "$(nproc 2>/dev/null || echo 1)" -n 500 grep -lsaF -f "$1" -- || true; }

# unseen: which needles none of the files that were found has; whether there are any
unseen() {
  tr '\n' '\0' <"$work/files" | { xargs -0 -r grep -ohaF -f "$work/needles" -- || true; } | sort -u >"$work/seen"
  grep -vxF -f "$work/seen" "$work/needles" >"$work/unseen"
}
# lying DISK: files, with NULs between them, that lie where $work/found says, as far as their file system tells where they lie
lying() {
  local path number start
  command -v filefrag >/dev/null && command -v awk >/dev/null || return 0
  cut -d ' ' -f 3 "$work/found" | sort -n >"$work/places"
  file_systems "$1" | while IFS= read -r path; do
    number=$(findmnt --noheadings --output MAJ:MIN --target "$path" | tail -n 1 | tr -d ' ')
    start=$(cat "/sys/dev/block/$number/loop/offset" 2>/dev/null) ||
      start=$((512 * $(cat "/sys/dev/block/$number/start" 2>/dev/null || echo 0)))
    # "File size of NAME is …", then its extents: "0: 0.. 7: 2048.. 2055: 8: last", all in units of 512 bytes.
    find "$path" -xdev -type f -size +15c -print0 | { xargs -0 -r filefrag -v -b512 2>/dev/null || true; } | awk -v start="$start" '
      FNR == NR { places[++n] = $1; next }
      /^File size of / { name = $0; sub(/^File size of /, "", name); sub(/ is [0-9]+ \([0-9]+ blocks? of 512 bytes\)$/, "", name); told = 0; next }
      told { next }
      split($0, part, ":") >= 4 && part[1] ~ /^ *[0-9]+$/ {
        split(part[3], ends, /\.\./)
        first = start + ends[1] * 512; past = start + (ends[2] + 1) * 512
        # The first place that is not before it, by halves.
        low = 1; high = n + 1
        while (low < high) { middle = int((low + high) / 2); if (places[middle] < first) low = middle + 1; else high = middle }
        if (low <= n && places[low] < past) { printf "%s%c", name, 0; told = 1 }
      }' "$work/places" -
  done
}

# explain DISK setup|scan: of lines KIND NEEDLE OFFSET those that must not be there, in words. What scan finds of keys in deleted files goes to $work/erase.
explain() {
  local kind needle offset path what found
  local -A told=() content=()
  cat >"$work/found"
  [ -s "$work/found" ] || return 0
  cut -d ' ' -f 2 "$work/found" | sort -u >"$work/needles"
  # Where each lies tells which files to read. All of them are read only for what isn't in those, images' files, which are most of a disk, last.
  local stores=() prune=()
  while IFS= read -r path; do
    stores+=("$path")
    prune+=(-path "$path" -prune -o)
  done < <(stores)
  lying "$1" | holding "$work/needles" >"$work/files"
  if unseen; then
    file_systems "$1" | while IFS= read -r path; do find "$path" -xdev "${prune[@]}" -type f -size +15c -print0; done | holding "$work/unseen" >>"$work/files"
  fi
  if [ "${#stores[@]}" -gt 0 ] && unseen; then
    find "${stores[@]}" -xdev -type f -size +15c -print0 | holding "$work/unseen" >>"$work/files"
  fi
  while read -r kind needle offset; do
    if [ -n "${told[$kind $needle]-}" ]; then
      # It is there more than once: each place is erased.
      [ "${told[$kind $needle]}" != erase ] || echo "$kind $needle $offset" >>"$work/erase"
      continue
    fi
    told[$kind $needle]=1
    case $kind in
      aws-key) what="an AWS access key id (${needle:0:4}…)" ;;
      private-key) what='a private key' ;;
      *) what='a docker login' ;;
    esac
    found=no
    while IFS= read -r path; do
      grep -qsaF -e "$needle" -- "$path" || continue
      found=yes
      # Asking a package manager takes long, and one file may hold many.
      [ -n "${content[$path]-}" ] || { if is_content "$path" "$2"; then content[$path]=yes; else content[$path]=no; fi; }
      [ "${content[$path]}" = yes ] || echo "$what is in $path"
    done <"$work/files"
    [ "$found" = no ] || continue
    if [ "$2" = scan ] && [ "$kind" = private-key ]; then
      echo "$kind $needle $offset" >>"$work/erase"
      told[$kind $needle]=erase
    else
      echo "$what is on $1 at byte $offset, in a file that was deleted again"
    fi
  done <"$work/found"
}

phase 'setup begin'
work=$kit/setup
mkdir -p "$work"
before=$work/before after=$work/after
disk=$(disk_of_root) || fail "nothing says which disk / is on: name it in BAKE_DISK"
secrets_on "$disk" >"$before"

# run NAME TEXT: by the program that its first line names, as if it could be executed where memory can't be
run() {
  local file=$work/script line='' words=()
  printf '%s' "$2" >"$file"
  IFS= read -r line <"$file" || true
  case $line in '#!'*) read -ra words <<<"${line#'#!'}" ;; *) words=(/bin/bash) ;; esac
  printf 'running %s\n' "$1"
  (cd "$work" && BAKE_ARCHITECTURE=amd64 DEBIAN_FRONTEND=noninteractive "${words[@]}" "$file") </dev/null || fail "machine.setup: $1 ended with $?"
  rm -f "$file"
  # Its last line may not be ended.
  echo
}
run 'ops/setup.sh' '#!/bin/sh
echo 
'

secrets_on "$disk" >"$after"
new_of "$before" "$after" | explain "$disk" setup >"$work/bad"
if [ -s "$work/bad" ]; then
  cat "$work/bad" >&2
  fail 'machine.setup left secrets on the disk. What a service needs comes at boot (env_file, env_from); what is not secret and deleted again: shred -u FILE'
fi
rm -rf "$work"
phase 'setup end'
