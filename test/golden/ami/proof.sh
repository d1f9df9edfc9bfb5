#!/bin/bash
# shellcheck disable=SC2317,SC2034 # not every probe is used
# What stands in for what services need to start, while a machine image is rehearsed or proven. Of the release, not of the disk.
#   images  prints the images of stand-ins, for the rehearsal to have them
#   start   missing env files, stand-ins, levels; leaves a hint for each service that lacks something
#   stop    takes back what start did
set -uo pipefail
export LC_ALL=C
run=/run/bake

# Probes of health checks. Each ends with 0 when it is well, else with 1 and the reason on stdout, within 5 s. bash opens the connections: curl may not be
# there.
if [ "${1-}" = probe ]; then
  case $2 in
    http) # ADDRESS PORT TARGET HOST
      exec 2>/dev/null
      # Docker's proxy accepts, and closes when nobody listens in the container: a write then is no end without a word.
      trap '' PIPE
      exec 3<>"/dev/tcp/$3/$4" || { echo 'nothing listens there'; exit 1; }
      printf 'GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bake\r\nAccept: */*\r\nConnection: close\r\n\r\n' "$5" "$6" >&3
      status=''
      IFS=' ' read -r _ status _ <&3
      case $status in
        2?? | 3??) exit 0 ;;
        '') echo 'it closes the connection without an answer' ;;
        *) echo "it answers ${status%$'\r'}" ;;
      esac
      ;;
    tcp) # ADDRESS PORT
      exec 2>/dev/null
      exec 3<>"/dev/tcp/$3/$4" && exit 0
      echo 'nothing listens there'
      ;;
  esac
  exit 1
fi
probe() {
  local said status=0
  said=$(timeout 5 "$BASH" "$0" probe "$@") || status=$?
  [ "$status" != 124 ] || said='no answer within 5 s'
  [ -z "$said" ] || printf '%s\n' "$said"
  return "$status"
}
# The certificate of a machine's own address can't be right, and who answers isn't the question.
probe_https() {
  local status
  status=$(curl --silent --insecure --max-time 5 --output /dev/null --write-out '%{http_code}' "$1")
  case $status in
    2?? | 3??) return 0 ;;
    '' | 000) echo 'nothing answers there' ;;
    *) echo "it answers $status" ;;
  esac
  return 1
}
# probe_command CONTAINER WORD…
probe_command() {
  local said status=0
  said=$(timeout 10 docker exec "$@" 2>&1) || status=$?
  [ "$status" != 0 ] || return 0
  said=${said##*$'\n'}
  [ "$status" != 124 ] || said='no end within 10 s'
  printf 'the command ends with %s: %s\n' "$status" "${said:0:200}"
  return 1
}
# The container's own address: at a port of the machine docker's proxy would accept connections also for nobody.
address_of() { docker inspect --format '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$1" 2>/dev/null | grep -m 1 .; }

on_ec2() { grep -qs '^Amazon EC2' /sys/class/dmi/id/sys_vendor; }
hint() { mkdir -p "$run/proof.hints" && printf '%s\n' "$2" >>"$run/proof.hints/$1"; }
level() { mkdir -p "$run/proof.levels" && echo "$2" >"$run/proof.levels/$1"; }

# made FILE: notes what stop removes, with the directories that come into being for it
made() {
  local dir
  dir=$(dirname "$1")
  local -a missing=()
  while [ ! -d "$dir" ]; do
    missing=("$dir" "${missing[@]}")
    dir=$(dirname "$dir")
  done
  for dir in "${missing[@]}"; do
    mkdir "$dir" && printf 'd %s\n' "$dir" >>"$run/proof.made"
  done
  printf 'f %s\n' "$1" >>"$run/proof.made"
}

# A virtual machine finds the stand-ins as docker's archive on a disk of its own: by its serial number, on EC2, where a volume has another, by its first bytes.
load() {
  local device
  if on_ec2; then
    for device in /sys/block/*; do
      device=/dev/${device##*/}
      [ "$(dd if="$device" bs=1 skip=257 count=5 status=none 2>/dev/null | tr -d '\0')" = ustar ] || continue
      docker load --quiet --input "$device" >/dev/null || echo 'the volume of the stand-ins holds no images' >&2
      return
    done
    return
  fi
  for device in /sys/block/*; do
    if grep -qsx 'bake-standins[[:space:]]*' "$device/serial" "$device/device/serial"; then
      docker load --quiet --input "/dev/${device##*/}" >/dev/null || echo 'the disk of the stand-ins holds no images' >&2
      return
    fi
  done
}
# image_of REFERENCE TAG: what the engine has it as
image_of() {
  local name
  for name in "$1" "$2"; do
    if docker image inspect "$name" >/dev/null 2>&1; then echo "$name"; return; fi
  done
  return 1
}

# stand_in NUMBER NAME REFERENCE TAG WITHIN SERVICE…: runs a container and waits until it is well; then its services know it by its name
stand_in() {
  local number=$1 name=$2 image within=$5 container=bake_stand_in_$1 service said='' address=''
  local -a options=() command=()
  image=$(image_of "$3" "$4") || { lacking "$name" 'its image is not here' "${@:6}"; return; }
  "options_$number"
  docker rm --force --volumes "$container" >/dev/null 2>&1
  said=$(docker run --detach --pull=never --name "$container" "${options[@]}" "$image" "${command[@]}" 2>&1) ||
    { lacking "$name" "${said%%$'\n'*}" "${@:6}"; return; }
  address=$(address_of "$container")
  local deadline=$((SECONDS + within))
  until said=$("well_$number" "$container" "$address"); do
    if [ "$(docker inspect --format '{{.State.Running}}' "$container" 2>/dev/null)" != true ]; then
      said="its container ended: $(docker logs --tail 3 "$container" 2>&1 | tr '\n' ' ')"
      lacking "$name" "$said" "${@:6}"
      return
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then lacking "$name" "not healthy after $within s: $said" "${@:6}"; return; fi
    sleep 0.5
  done
  for service in "${@:6}"; do arguments[$service]+=" --add-host=$name:$address"; done
}
# lacking NAME WHY SERVICE…
lacking() {
  local service
  for service in "${@:3}"; do hint "$service" "stand-in $1: $2"; done
}

declare -A arguments=()

# db
options_1() {
  options=( '--env=MOTTO=one|two words' )
  command=( 'one' 'two words' )
}
well_1() {
  probe tcp "$2" '5432'
}

images() {
  :
  echo 'docker.io/library/postgres@sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff'
}

start() {
  mkdir -p "$run"
  load
  stand_in 1 'db' 'docker.io/library/postgres@sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff' 'bake-stand-in:sha256-ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff' 60 'web' 'jobs'

  # web
  if [ ! -e '/etc/shop/web.env' ]; then
    made '/etc/shop/web.env'
    printf '%s\n' 'TOKEN=one|two words' >'/etc/shop/web.env'
  fi
  {
    printf 'BAKE_RUN_ARGS="%s"\n' "${arguments['web']-}"
  } >"$run/"'web'.env

  # jobs
  level 'jobs' started
  hint 'jobs' 'env_from is not read while a machine is proven: write proof: { env: { … } } for it in bake.yaml'
  {
    printf 'BAKE_RUN_ARGS="%s"\n' "${arguments['jobs']-}"
    echo BAKE_HEALTH=started
    echo BAKE_ENV_FROM=stands-in
  } >"$run/"'jobs'.env

  # edge
  on_ec2 || level 'edge' skipped
  {
    printf 'BAKE_RUN_ARGS="%s"\n' "${arguments['edge']-}"
  } >"$run/"'edge'.env

  # queue.1
  {
    printf 'BAKE_RUN_ARGS="%s"\n' "${arguments['queue.1']-}"
  } >"$run/"'queue.1'.env
}

stop() {
  local kind path
  docker ps --all --quiet --filter 'name=^/bake_stand_in_' | while read -r container; do docker rm --force --volumes "$container" >/dev/null; done
  if [ -e "$run/proof.made" ]; then
    tac "$run/proof.made" | while read -r kind path; do
      case $kind in
        f) rm -f "$path" ;;
        d) rmdir "$path" ;;
      esac
    done
  fi
  rm -rf "$run"/proof.made "$run"/proof.hints "$run"/proof.levels "$run"/*.proof-env
  rm -f "$run/"'web'.env
  rm -f "$run/"'jobs'.env
  rm -f "$run/"'edge'.env
  rm -f "$run/"'queue.1'.env
}

case ${1-} in
  images | start | stop) "$1" ;;
  *)
    echo 'usage: proof.sh images|start|stop' >&2
    exit 2
    ;;
esac
