# shellcheck shell=bash
# Packages of the distribution. Part of bin/setup.

# Older ones have no --progress=rawjson, which the live view and the logs read.
BUILDX_AT_LEAST=0.13
# Older ones ignore S3's If-None-Match.
MOTO_AT_LEAST=5.1
# Distributions and CI images carry these files; a test names another one.
OS_RELEASE=${BAKE_OS_RELEASE:-/etc/os-release}
packages=()

os() { ( . "$OS_RELEASE" 2>/dev/null && eval "printf %s \"\${$1:-}\"" ); }
distribution() { os PRETTY_NAME; }

# Debian, Ubuntu, and what calls itself like one of them.
can_install() {
  case " $(os ID) $(os ID_LIKE) " in
    *' debian '* | *' ubuntu '*) has apt-get ;;
    *) false ;;
  esac
}
die_by_hand() {
  die "bin/setup installs packages on Debian and Ubuntu only, and this is $(distribution)" \
    "install by hand: git; npm; Docker Engine 23 or newer with buildx $BUILDX_AT_LEAST or newer (https://docs.docker.com/engine/install/); the registry binary \"registry\" or \"docker-registry\" (https://distribution.github.io/distribution/); mmdebstrap${tests:+; for the tests moto $MOTO_AT_LEAST or newer with its server (https://docs.getmoto.org), docker compose 2, sudo and shellcheck}${machines:+; for machine images Packer $PACKER_AT_LEAST or newer (https://developer.hashicorp.com/packer/install), QEMU with qemu-img and qemu-storage-daemon, slirp4netns, iptables, mtools, dosfstools, extlinux and an SSH client}" \
    'then run bin/setup again: it starts the rest'
}
# Debian 12 itself has Engine 20.10, no buildx and no moto. Debian 13's run on it without touching libc or Python.
needs_trixie() {
  [ "$(os ID)" = debian ] && [ "$(os VERSION_CODENAME)" = bookworm ] &&
    { wants 'docker.io ' || wants docker-cli || wants docker-buildx || wants docker-compose || wants python3-moto; }
}

look_for_tools() {
  local version
  if has git; then fine "git $(git --version | cut -d' ' -f3)"; else packages+=(git); fi
  if has docker-registry || has registry; then
    fine "registry $(command -v docker-registry || command -v registry)"
  else
    packages+=(docker-registry)
  fi
  has docker || packages+=(docker-cli)
  version=$(docker buildx version 2>/dev/null | awk '{ sub(/^v/, "", $2); print $2 }') || true
  if [ -n "$version" ] && version_at_least "$BUILDX_AT_LEAST" "$version"; then
    fine "buildx $version"
  else
    [ -z "$version" ] || lost "buildx $version is too old: $BUILDX_AT_LEAST is the first that works"
    packages+=(docker-buildx)
  fi
}

# As test/support/moto.ts looks for it: the distribution's Python, then whichever is first in PATH.
look_for_moto() {
  local python version
  for python in ${PYTHON:-/usr/bin/python3 python3}; do
    version=$("$python" -c 'import importlib.metadata as m, importlib.util as u; print(m.version("moto") if u.find_spec("flask_cors") else "")' 2>/dev/null) || continue
    [ -n "$version" ] && version_at_least "$MOTO_AT_LEAST" "$version" || continue
    fine "moto $version"
    return
  done
  # The package leaves out what its server needs.
  packages+=(python3-moto python3-flask-cors)
}

# What the tests of workers/ run.
look_for_test_tools() {
  local version
  # Version 1 reads another format.
  version=$(docker compose version --short 2>/dev/null) || version=
  if [ -n "$version" ] && version_at_least 2 "${version#v}"; then fine "docker compose $version"; else packages+=(docker-compose); fi
  if has shellcheck; then fine 'shellcheck'; else packages+=(shellcheck); fi
  # What users who aren't root have disks mounted with.
  if has sudo; then fine 'sudo'; else packages+=(sudo); fi
  # What tests' machines serve a page with.
  if [ -x /bin/busybox ]; then fine 'busybox'; else packages+=(busybox-static); fi
}

wants() { [[ " ${packages[*]} " == *" $1"* ]]; }

# First of all that is planned.
plan_packages() {
  [ "${#packages[@]}" = 0 ] && return 0
  local line="install packages (needs root): ${packages[*]}"
  if needs_trixie; then line+="; what Debian 12 lacks from Debian 13, pinned to these names"; fi
  todo=("$line" "${todo[@]}")
  steps=(install_packages "${steps[@]}")
}

install_packages() {
  say "installing ${packages[*]}"
  if needs_trixie; then add_trixie; fi
  # So that an engine installed now starts with its settings and not without them.
  if wants 'docker.io '; then prepare_engine; fi
  apt_get update
  local name known=()
  for name in "${packages[@]}"; do
    # Where Docker's own packages are installed, theirs fits. Older Ubuntu has no docker-cli of its own: docker.io brings it.
    if [ "$name" = docker-buildx ] && dpkg -s docker-ce >/dev/null 2>&1; then name=docker-buildx-plugin; fi
    if [ "$name" = docker-compose ]; then
      # Ubuntu's docker-compose is version 1.
      if dpkg -s docker-ce >/dev/null 2>&1; then name=docker-compose-plugin; elif is_known docker-compose-v2; then name=docker-compose-v2; fi
    fi
    if is_known "$name"; then known+=("$name"); elif [ "$name" != docker-cli ]; then die_unknown "$name"; fi
  done
  apt_get install --yes --no-install-recommends "${known[@]}"
  # bake starts a registry per state directory; the one that the package starts would only hold port 5000.
  if wants 'docker-registry '; then switch_off docker-registry; fi
}

is_known() { [ -n "$(apt-cache policy -- "$1" | awk '/Candidate:/ && $2 != "(none)" { print $2 }')" ]; }
die_unknown() {
  local how='see https://docs.docker.com/engine/install/ for Docker Engine and buildx'
  [[ $1 != python3-* ]] || how="install moto $MOTO_AT_LEAST or newer with its server for python3 (https://docs.getmoto.org)"
  [ "$1" != packer ] || how="install Packer $PACKER_AT_LEAST or newer (https://developer.hashicorp.com/packer/install)"
  die "$(distribution) has no package $1" "$how, then run bin/setup again"
}

add_trixie() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  # Where this machine has its own packages from.
  mirror=${BAKE_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)}
  [ -n "$mirror" ] || die "apt's sources name no Debian mirror" 'set BAKE_DEBIAN_MIRROR to one, then run bin/setup again'
  as_root tee /etc/apt/sources.list.d/bake-trixie.sources >/dev/null <<SOURCE
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: $keyring
SOURCE
  as_root tee /etc/apt/preferences.d/bake-trixie >/dev/null <<'PIN'
Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: docker.io docker-cli docker-buildx docker-compose python3-moto
Pin: release n=trixie
Pin-Priority: 500
PIN
}

# Mirrors hiccup: three attempts in all. apt's hundreds of lines are shown only when one fails.
apt_get() {
  local pause log
  log=$(mktemp)
  for pause in 5 20 0; do
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1; then
      rm -f "$log"
      return 0
    fi
    tail -n 20 "$log" >&2
    [ "$pause" = 0 ] || { echo "apt-get $1 failed; again in $pause s" >&2; sleep "$pause"; }
  done
  rm -f "$log"
  die "apt-get $1 failed three times" 'see its messages above; then run bin/setup again'
}

switch_off() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet --now "$1" || true
  elif [ -x "/etc/init.d/$1" ]; then
    { as_root "/etc/init.d/$1" stop && as_root update-rc.d "$1" disable; } >/dev/null 2>&1 || true
  fi
}
