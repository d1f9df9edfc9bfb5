# shellcheck shell=bash
# Docker Engine: its settings, and having it run. Part of bin/setup.

DAEMON_JSON=/etc/docker/daemon.json
DROP_IN=/etc/systemd/system/docker.service.d/bakehouse.conf
# Says that bin/setup installed this engine, so that it may configure and restart it without asking.
MARKER=/var/lib/bakehouse/engine
LOG=/var/log/dockerd.log
# Else the engine clips each step's log at 200 KiB/s and 2 MiB (BuildKit, util/progress/logs).
UNLIMITED=(BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1)

systemd() { [ -d /run/systemd/system ]; }
ours() { [ -e "$MARKER" ]; }
dockerd_pid() {
  local pid
  pid=$(cat /var/run/docker.pid 2>/dev/null) || return 1
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

# Sets `engine` to running, denied (it runs, and this user may not use it), stopped or missing; `engine_version` when it runs.
find_engine() {
  local answer
  engine=stopped engine_version=
  if answer=$(docker version --format '{{.Server.Version}}' 2>&1); then
    engine=running engine_version=$answer
  elif [[ $answer == *'permission denied'* ]]; then
    engine=denied
  elif [ -n "${DOCKER_HOST:-}" ] && has docker; then
    die "DOCKER_HOST=$DOCKER_HOST doesn't answer: $answer" 'start that engine, or unset DOCKER_HOST'
  elif ! has dockerd; then
    engine=missing
  fi
}
docker_() { if [ "$engine" = denied ]; then as_root docker "$@"; else docker "$@"; fi; }

look_at_engine() {
  case $engine in
    running) look_at_settings ;;
    denied)
      lost "Docker Engine runs, but $(id -un) may not use it: that takes membership in group docker"
      plan "add $(id -un) to group docker (needs root; counts from the next login)" join_group
      ;;
    missing)
      packages+=(docker.io)
      has iptables || packages+=(iptables)
      plan 'start Docker Engine, with the containerd image store and unlimited step logs' start_engine
      ;;
    stopped)
      has iptables || packages+=(iptables)
      plan 'start Docker Engine (needs root)' start_engine
      ;;
  esac
}

look_at_settings() {
  local store= logs what=() change
  [[ $(docker info --format '{{json .DriverStatus}}' 2>/dev/null) == *io.containerd.snapshotter* ]] && store=1
  logs=$(step_logs)
  fine "Docker Engine $engine_version${store:+, containerd image store}, step logs $logs"
  if [ -z "$store" ]; then
    what+=('the containerd image store')
    lost 'it has no containerd image store: no shared cache in the registry (inline cache only), one platform per image'
    ours || lost 'switching the store hides the images and containers it has now, until it is switched back'
  fi
  if [ "$logs" = clipped ]; then
    what+=('unlimited step logs')
    lost 'it clips the log of a step at 2 MiB and 200 KiB/s: bake logs marks the gap'
  fi
  [ "${#what[@]}" = 0 ] && return 0
  change=$(printf '%s and ' "${what[@]}")
  change=${change% and }
  if ours || consent "Give this engine $change, and restart it? Its containers stop."; then
    plan "give Docker Engine $change, and restart it (needs root)" reconfigure_engine
  else
    lost "left as it is; bin/setup --yes gives it $change, and restarts it"
  fi
}

# unlimited, clipped, or unknown (a remote engine, or nobody's environment that this user may read)
step_logs() {
  local environment pid
  if pid=$(dockerd_pid) && environment=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null); then
    [[ $environment == *BUILDKIT_STEP_LOG_MAX_SIZE=-1* && $environment == *BUILDKIT_STEP_LOG_MAX_SPEED=-1* ]] && echo unlimited || echo clipped
  elif systemd && environment=$(systemctl show --property Environment docker 2>/dev/null); then
    [[ $environment == *BUILDKIT_STEP_LOG_MAX_SIZE=-1* && $environment == *BUILDKIT_STEP_LOG_MAX_SPEED=-1* ]] && echo unlimited || echo clipped
  else
    echo unknown
  fi
}

# Never started: there is nothing that settings could hide. Only root sees that.
fresh() { as_root test ! -e /var/lib/docker/engine-id && as_root test ! -e /var/lib/docker/image; }
configured() { grep -qs containerd-snapshotter "$DAEMON_JSON" && { ! systemd || [ -e "$DROP_IN" ]; }; }

prepare_engine() {
  say "configuring Docker Engine: $DAEMON_JSON$(systemd && echo ", $DROP_IN" || true)"
  as_root mkdir -p "${MARKER%/*}" "${DAEMON_JSON%/*}"
  use_containerd_store
  echo 'installed or configured by bin/setup of bakehouse, which may restart it' | as_root tee "$MARKER" >/dev/null
  systemd || return 0
  as_root mkdir -p "${DROP_IN%/*}"
  printf '[Service]\nEnvironment=%s\n' "${UNLIMITED[*]}" | as_root tee "$DROP_IN" >/dev/null
  as_root systemctl daemon-reload
}

use_containerd_store() {
  if [ ! -s "$DAEMON_JSON" ]; then
    echo '{ "features": { "containerd-snapshotter": true } }' | as_root tee "$DAEMON_JSON" >/dev/null
    return
  fi
  local merged
  merged=$("$(any_node)" -e '
    const settings = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"))
    console.log(JSON.stringify({ ...settings, features: { ...settings.features, "containerd-snapshotter": true } }, null, 2))' "$DAEMON_JSON") ||
    die "can't add the containerd image store to $DAEMON_JSON" 'add "features": { "containerd-snapshotter": true } to it, then run bin/setup again'
  as_root cp -p "$DAEMON_JSON" "$DAEMON_JSON.before-bakehouse"
  echo "$merged" | as_root tee "$DAEMON_JSON" >/dev/null
}

start_engine() {
  if ! configured && { ours || fresh; }; then prepare_engine; fi
  find_engine
  if [ "$engine" != stopped ]; then
    # The package started it already: without systemd, without its environment.
    if ours && [ "$(step_logs)" = clipped ]; then restart_engine; fi
  else
    say 'starting Docker Engine'
    if systemd; then as_root systemctl enable --now docker; else start_dockerd dockerd; fi
  fi
  wait_for_engine
}

reconfigure_engine() {
  prepare_engine
  restart_engine
  wait_for_engine
}

restart_engine() {
  say 'restarting Docker Engine'
  if systemd; then
    as_root systemctl restart docker
    return
  fi
  local pid args
  pid=$(dockerd_pid) || die "this engine isn't one that bin/setup can restart" 'restart it yourself, then run bin/setup again'
  mapfile -d '' -t args <"/proc/$pid/cmdline"
  as_root kill "$pid"
  while [ -e "/proc/$pid" ]; do sleep 0.2; done
  start_dockerd "${args[@]}"
}

# Detached, so that it outlives this shell. What a machine that was switched off left in /run names a process that is somebody else's by now.
start_dockerd() {
  local stale
  for stale in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    [[ $(cat "/proc/$(cat "$stale" 2>/dev/null || echo none)/comm" 2>/dev/null) == @(dockerd|containerd) ]] || as_root rm -f "$stale"
  done
  as_root sh -c 'log=$1; shift; setsid env "$@" >>"$log" 2>&1 </dev/null &' sh "$LOG" "${UNLIMITED[@]}" "$@"
}

wait_for_engine() {
  local tenths
  for ((tenths = 0; tenths < 600; tenths++)); do
    find_engine
    case $engine in
      running) return 0 ;;
      denied) join_group; return 0 ;;
    esac
    sleep 0.1
  done
  systemd || tail -n 15 "$LOG" >&2
  die "Docker Engine didn't answer within a minute" "read $(systemd && echo '"journalctl -u docker"' || echo "$LOG"), then run bin/setup again"
}

join_group() {
  as_root usermod -aG docker "$(id -un)"
  lost 'log in again, or run "newgrp docker", before you use bake'
}
