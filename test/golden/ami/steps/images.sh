#!/bin/bash
# Brings the images into the engine's own store, by digest: unpacked, so that nothing is loaded when the machine boots.
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

phase 'images begin'
login=${BAKE_LOGIN:-$kit/login}
docker=(docker)
[ ! -d "$login" ] || docker+=(--config "$login")

# The registry of the machine that bakes has an address of its own loopback: 127.0.0.1 here leads there while images are pulled.
forwarded=()
forward() {
  local proxy
  live && [ -n "${BAKE_LOOPBACK-}" ] || return 0
  for proxy in /usr/lib/systemd/systemd-socket-proxyd /lib/systemd/systemd-socket-proxyd; do
    [ ! -x "$proxy" ] || break
  done
  [ -x "$proxy" ] || fail "there is no systemd-socket-proxyd, which leads to the registry of the machine that bakes"
  systemd-run --quiet --collect --unit="bake-loopback-$1" --socket-property="ListenStream=127.0.0.1:$1" "$proxy" "$BAKE_LOOPBACK:$1"
  forwarded+=("bake-loopback-$1.socket" "bake-loopback-$1.service")
}
finish() {
  [ "${#forwarded[@]}" -eq 0 ] || systemctl --quiet stop "${forwarded[@]}" 2>/dev/null || true
  rm -rf "$login"
}
trap finish EXIT
forward 5000

# pull REFERENCE
pull() {
  local attempt said began=$SECONDS
  for attempt in 1 2 3; do
    if said=$("${docker[@]}" pull --quiet "$1" 2>&1); then break; fi
    case $said in
      # These don't get better.
      *'not found'* | *'manifest unknown'* | *unauthorized* | *denied* | *'no basic auth'* | *'no space left'*) attempt=3 ;;
    esac
    [ "$attempt" -lt 3 ] || fail "can't pull $1: $said"
    printf 'trying again: %s\n' "$said"
    sleep $((attempt * 3))
  done
  docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | grep -qF -e "@${1##*@}" ||
    fail "$1: the engine knows what it pulled by another digest"
  said=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "$1")
  [ "$said" = linux/amd64 ] || fail "$1 is for $said, and the machine is linux/amd64"
  printf 'pulled %s in %s s\n' "$1" $((SECONDS - began))
}
pull '127.0.0.1:5000/shop/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
pull 'registry.example.com/shop/jobs@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'
pull '127.0.0.1:5000/shop/edge@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
pull '127.0.0.1:5000/shop/queue.1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'

# Of the disk that this one was made from, when that was baked as well.
old=/etc/bake/manifest.json
if [ -e "$old" ]; then
  wanted=( '127.0.0.1:5000/shop/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' 'registry.example.com/shop/jobs@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb' '127.0.0.1:5000/shop/edge@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' '127.0.0.1:5000/shop/queue.1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' )
  sed -n -E 's/^.*"repository": "([^"]+)", "digest": "([^"]+)".*$/\1@\2/p' "$old" | sort -u | while read -r image; do
    printf '%s\n' "${wanted[@]}" | grep -qxF -e "$image" || docker image rm --force "$image" >/dev/null || true
  done
fi

# What stands in at the rehearsal, which removes it again.
if live && [ -e "$kit/proof.sh" ]; then
  bash "$kit/proof.sh" images | sort -u | while read -r image; do
    docker image inspect "$image" >/dev/null 2>&1 || { pull "$image" && echo "$image" >>"$kit/stand-ins"; }
  done
fi
phase 'images end'
