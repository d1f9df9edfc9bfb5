# shellcheck shell=bash
# What a clone needs: dependencies, the build, the example's base image. Part of bin/setup.

BASE_IMAGE=localhost/bakehouse/base:bookworm
NODE_MODULES=$root/node_modules

in_clone() { [ -f "$root/package-lock.json" ] && [ -d "$root/src" ]; }
# The pinned one of a clone if it is there, else whatever this machine has: old ones will do for a few lines of JSON.
any_node() { ls "$NODE_MODULES"/node-linux-*/bin/node 2>/dev/null || command -v node || echo node; }

# Told by what is installed, not by file times, which a checkout changes.
needs_dependencies() {
  in_clone || return 1
  ! "$(any_node)" -e '
    const read = (path) => JSON.parse(require("fs").readFileSync(`${process.argv[1]}/${path}`, "utf8")).packages
    const installed = read("node_modules/.package-lock.json")
    const missing = Object.entries(read("package-lock.json")).some(([path, { version, link, optional, peer }]) => path.startsWith("node_modules/") &&
      !link && (installed[path] ? installed[path].version !== version : !optional && !peer))
    process.exit(missing ? 1 : 0)' "$root" 2>/dev/null
}
needs_build() {
  in_clone || return 1
  [ ! -e "$root/oclif.manifest.json" ] ||
    [ -n "$(find "$root/src" "$root/package.json" "$root/tsconfig.json" "$root/bin/build.js" -newer "$root/oclif.manifest.json" -print -quit)" ]
}
needs_base_image() { [ "$engine" != running ] || ! docker image inspect --format '{{.Id}}' "$BASE_IMAGE" >/dev/null 2>&1; }

look_at_clone() {
  in_clone || return 0
  local stale=
  if needs_dependencies; then
    stale=1
    has npm || packages+=(npm)
    plan 'npm ci: the dependencies, among them a Node 24 of their own' install_dependencies
  else
    fine "dependencies, Node $("$(any_node)" --version)"
  fi
  if [ -n "$stale" ] || needs_build; then plan 'npm run build' build; else fine 'build'; fi
  if needs_base_image; then
    has mmdebstrap || packages+=(mmdebstrap debian-archive-keyring)
    plan "make $BASE_IMAGE, the example's base image, from Debian packages (1 to 2 minutes; needs root)$([ "$engine" = running ] || echo ', unless this engine has it')" make_base_image
  else
    fine "$BASE_IMAGE"
  fi
}

install_dependencies() {
  # npm ci empties what the link points to, which is another clone's.
  [ ! -L "$NODE_MODULES" ] || die "$NODE_MODULES is a link to $(readlink -f "$NODE_MODULES")" 'remove the link, or install there'
  say 'npm ci'
  (cd "$root" && npm ci --no-audit --no-fund --loglevel=error) || die 'npm ci failed' "see its messages above; then run bin/setup again"
}

build() {
  say 'npm run build'
  (cd "$root" && npm run --silent build) || die 'the build failed' "see the compiler's messages above"
}

# The machine's own certificates go in, so that builds behind a proxy that inspects TLS can fetch packages; Node must be told to read them.
# An npm registry of the machine's own goes in for the same reason.
make_base_image() {
  # It was planned while the engine was down.
  docker_ image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return 0
  say "making $BASE_IMAGE"
  local directory registry trim=() settings=()
  for directory in doc man info locale lintian; do trim+=("--dpkgopt=path-exclude=/usr/share/$directory/*"); done
  settings+=(--change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' --change 'CMD ["bash"]')
  registry=$(npm config get registry 2>/dev/null) || registry=
  case $registry in
    '' | undefined | *@*) ;;
    *) settings+=(--change "ENV npm_config_registry=$registry") ;;
  esac
  as_root mmdebstrap --variant=minbase --include=ca-certificates,nodejs,npm --format=tar \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt=force-unsafe-io "${trim[@]}" --dpkgopt='path-exclude=/usr/include/*' --dpkgopt='path-exclude=*.a' \
    --dpkgopt='path-exclude=*.js.map' --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
    bookworm - ${BAKE_DEBIAN_MIRROR:+"$BAKE_DEBIAN_MIRROR"} 2> >(progress) |
    docker_ import "${settings[@]}" - "$BASE_IMAGE" >/dev/null || {
    # An import whose input ended early may have left something that looks like the image.
    docker_ image rm "$BASE_IMAGE" >/dev/null 2>&1 || true
    die "couldn't make $BASE_IMAGE" 'see the messages above; then run bin/setup again'
  }
}

# mmdebstrap's milestones, without dpkg's thousand lines.
progress() { grep --line-buffered -E '^(I: (running|downloading|extracting|installing|cleaning|creating)|E: )' | sed -u 's/^I: /  /' >&2; }
