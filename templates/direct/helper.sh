#!/bin/bash
# The one part of bake that is root: has change.sh change a disk, for a bake that isn't. It takes no arguments. What it is asked are five fields on stdin, each
# ended by a NUL: DIR ROOTS MODE EXPLAIN PORTS, as change.sh has them, ports with commas between them. stdin stays open for as long as somebody waits: its end
# ends the change, and nothing of it stays mounted or running. Prints what change.sh prints, and last `bake-exit: CODE`; asked nothing, `bake-helper: ready`.
# Who asks is SUDO_UID, else BAKE_DISK_USER (bake-disk@.service), else root. What lies in DIR is read and written with that user's rights alone.
set -euo pipefail
# What steps make is the same whoever asks.
umask 022

refuse() {
  echo "bake: $*"
  echo 'bake-exit: 2'
  exit 2
}
user=${SUDO_UID:-${BAKE_DISK_USER:-0}}
# A user's own programs are no business of root's.
[ "$user" = 0 ] || PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
id -u -- "$user" >/dev/null 2>&1 || refuse "there is no user $user"
[ "$(id -u)" = 0 ] || refuse 'disks are mounted by root'

if ! IFS= read -r -d '' dir; then
  echo 'bake-helper: ready'
  exit 0
fi
for field in roots mode explain ports; do IFS= read -r -d '' "${field?}" || refuse 'the question ends too early'; done
: "${roots?}" "${mode?}" "${explain?}" "${ports?}"
list() { [[ $2 =~ ^$1(,$1)*$ ]]; }
list '(ext4|xfs):[0-9]{1,18}:[0-9]{1,18}' "$roots" || refuse 'ROOTS are TYPE:OFFSET:LENGTH'
[[ $mode =~ ^(first|next)$ ]] || refuse 'MODE is first or next'
[[ $explain =~ ^(explain|quiet)$ ]] || refuse 'EXPLAIN is explain or quiet'
[ -z "$ports" ] || list '[0-9]{1,5}' "$ports" || refuse 'PORTS are numbers'
[[ $dir == /* && $dir != *[[:cntrl:]]* ]] || refuse 'DIR is absolute'
cd -- "$dir" 2>/dev/null || refuse "there is no directory $dir"
IFS=, read -r -a numbers <<<"$ports"
# Found before: what is killed below is then a child of unshare's, and no other.
script=$(dirname "$(readlink -f "$0")")/change.sh
exec 3<&0 </dev/null
unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- \
  bash "$script" "$user" "$roots" "$mode" "$explain" "${numbers[@]}" 3<&- &
change=$!
# The first process of the namespace is killed, and with it go all: unshare ends when they have. Killed itself, it would not wait for them.
{
  while IFS= read -r -N 4096 -u 3 _; do :; done
  while kill -0 "$change"; do
    if first=$(cat "/proc/$change/task/$change/children"); then
      [ -z "$first" ] || kill -KILL "${first% }"
    else
      kill -KILL "$change"
    fi
    sleep 0.01
  done
} 2>/dev/null &
watch=$!
status=0
wait "$change" || status=$?
kill "$watch" 2>/dev/null || true
wait "$watch" 2>/dev/null || true
# What was printed last may be no whole line.
printf '\nbake-exit: %s\n' "$status"
exit "$status"
