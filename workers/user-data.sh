#!/bin/bash
# Turns a Debian 13 instance into a worker of the fleet: cache disk, Docker engine, Node 24, bake, its unit. Run as root, by cloud-init from the launch
# template that fleet.yaml makes, or on a machine whose image is to hold everything already (BAKE_START=no). What is there is kept: run it as often as you like.
#
#   BAKE_YAML_BASE64     bake.yaml, the worker's connection settings (needed)
#   BAKE_PACKAGE         what npm installs: a version, a tarball's address, a file; bakehouse unless told
#   BAKE_NODE_VERSION    Node from nodejs.org where there is no Node 24 or newer; 24.11.0 unless told
#   BAKE_GIT_KEY_PARAMETER   SSM parameter with the ssh key that fetches commits; none unless told
#   BAKE_WORKER_ENV_BASE64   more lines for the worker's environment, NAME=value
#   BAKE_START           no: install and configure, start nothing
set -euo pipefail

: "${BAKE_YAML_BASE64:?is not set: bake.yaml in base64}"
package=${BAKE_PACKAGE:-bakehouse}
node_version=${BAKE_NODE_VERSION:-24.11.0}
start=${BAKE_START:-yes}
home=/opt/bake
LABEL=bake-cache

say() { echo "bake: $*"; }
# write FILE MODE: stdin to the file, whole or not at all
write() {
  local new
  new=$(mktemp "$1.XXXXXX")
  cat >"$new"
  chmod "$2" "$new"
  mv "$new" "$1"
}
# changed NAME FILE…: whether the files are others than those that NAME was last started with
changed() {
  local name=$1 sum
  shift
  sum=$(sha256sum "$@")
  [ "$(cat "$home/$name.started" 2>/dev/null)" != "$sum" ] || return 1
  printf '%s\n' "$sum" >"$home/$name.started.new"
}
started() { mv "$home/$1.started.new" "$home/$1.started"; }

# The largest disk that holds nothing and is used by nobody: an instance store, or a volume of the launch template. Formatted at once, then found by its label.
blank_disk() {
  local name type size children
  lsblk --bytes --noheadings --nodeps --paths --output NAME,TYPE,SIZE --sort SIZE | tac | while read -r name type size; do
    if [ "$type" != disk ] || [ "$size" -le $((8 << 30)) ]; then continue; fi
    children=$(lsblk --noheadings --output NAME "$name" | wc -l)
    # blkid exits with 2 when it finds no signature of a file system, a partition table or a RAID.
    if [ "$children" = 1 ] && ! findmnt --source "$name" >/dev/null && { blkid --probe "$name" >/dev/null 2>&1; [ $? = 2 ]; }; then
      echo "$name"
      break
    fi
  done
}

mount_cache() {
  local disk directory
  if ! blkid --label "$LABEL" >/dev/null; then
    disk=$(blank_disk || true)
    if [ -z "$disk" ]; then
      say 'no disk for the caches: they are on the root volume'
      return 0
    fi
    say "formatting $disk for the caches"
    # Caches are many small files: twice the usual inodes.
    mkfs.ext4 -q -L "$LABEL" -i 8192 -m 1 -E lazy_itable_init=1,lazy_journal_init=1 "$disk"
    udevadm settle || true
  fi
  mkdir -p /mnt/bake-cache
  if ! grep -q "^LABEL=$LABEL " /etc/fstab; then
    # An instance store is blank after a stop; the machine boots without it.
    {
      echo "LABEL=$LABEL /mnt/bake-cache ext4 defaults,noatime,nofail 0 2"
      for directory in docker bake; do
        echo "/mnt/bake-cache/$directory /var/lib/$directory none bind,nofail,x-systemd.requires-mounts-for=/mnt/bake-cache 0 0"
      done
    } >>/etc/fstab
    systemctl daemon-reload
  fi
  mountpoint -q /mnt/bake-cache || mount /mnt/bake-cache
  for directory in docker bake; do
    mkdir -p "/mnt/bake-cache/$directory" "/var/lib/$directory"
    mountpoint -q "/var/lib/$directory" || mount "/var/lib/$directory"
  done
}

configure_engine() {
  mkdir -p "/etc/docker" "/etc/systemd/system/docker.service.d"
  # A daemon.json of the machine's own is its owner's, as long as it has the image store that bake needs.
  if [ ! -s "/etc/docker/daemon.json" ]; then
    echo '{ "features": { "containerd-snapshotter": true }, "log-driver": "journald" }' | write "/etc/docker/daemon.json" 644
  elif ! grep -q containerd-snapshotter "/etc/docker/daemon.json"; then
    say "warning: /etc/docker/daemon.json has no containerd-snapshotter: builds share no cache through the registry"
  fi
  # Else BuildKit clips the log of a step at 200 KiB/s and 2 MiB.
  printf '%s\n' '[Unit]' 'RequiresMountsFor=/var/lib/docker' '[Service]' \
    'Environment=BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1' |
    write "/etc/systemd/system/docker.service.d/bake.conf" 644
}

install_packages() {
  local missing=() name
  for name in docker.io docker-buildx iptables git openssh-client ca-certificates curl xz-utils; do
    dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ "${#missing[@]}" = 0 ] && return 0
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -o Acquire::Retries=5 update
  apt-get -q -o Acquire::Retries=5 -o Dpkg::Lock::Timeout=300 install --yes --no-install-recommends "${missing[@]}"
}

is_new_enough() { [[ $("$1" --version 2>/dev/null) =~ ^v(2[4-9]|[3-9][0-9])\. ]]; }
install_node() {
  local machine name address=https://nodejs.org/dist/v$node_version work
  if is_new_enough "$home/node/bin/node" || is_new_enough node; then return 0; fi
  case $(uname -m) in aarch64) machine=arm64 ;; *) machine=x64 ;; esac
  name=node-v$node_version-linux-$machine
  say "installing $name"
  work=$(mktemp -d)
  curl -fsSL --retry 5 --output "$work/$name.tar.xz" "$address/$name.tar.xz"
  curl -fsSL --retry 5 --output "$work/SHASUMS256.txt" "$address/SHASUMS256.txt"
  (cd "$work" && grep " $name.tar.xz\$" SHASUMS256.txt | sha256sum --check --quiet)
  rm -rf "$home/node"
  mkdir -p "$home/node"
  tar -xJf "$work/$name.tar.xz" -C "$home/node" --strip-components=1
  rm -rf "$work"
}

install_bake() {
  export PATH=$home/node/bin:$home/bin:$PATH
  if [ "$(cat "$home/package" 2>/dev/null)" = "$package" ] && "$home/bin/bake" --version >/dev/null 2>&1; then return 0; fi
  say "installing $package"
  rm -f "$home/package"
  mkdir -p "$home"
  npm install --global --prefix "$home" --omit=dev --no-audit --no-fund --no-update-notifier -- "$package"
  echo "$package" >"$home/package"
}

# imds PATH: what the instance metadata service (version 2) says; fails where this isn't an instance
imds() {
  local base=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}/latest token
  token=$(curl -fsS -m 2 --retry 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$base/api/token" 2>/dev/null) || return 1
  curl -fsS -m 2 --retry 2 -H "X-aws-ec2-metadata-token: $token" "$base/meta-data/$1" 2>/dev/null
}

# ssm_parameter NAME: its value, asked for with the instance's role. Credentials go to curl on stdin, where no list of processes shows them.
ssm_parameter() {
  local region role
  region=$(imds placement/region)
  role=$(imds iam/security-credentials/)
  # shellcheck disable=SC2016 # a template of JavaScript's
  imds "iam/security-credentials/$role" |
    node -e '
      const { AccessKeyId, SecretAccessKey, Token } = JSON.parse(require("fs").readFileSync(0, "utf8"))
      console.log(`user = "${AccessKeyId}:${SecretAccessKey}"\nheader = "X-Amz-Security-Token: ${Token}"`)' |
    curl -fsS --retry 5 --config - --aws-sigv4 "aws:amz:$region:ssm" -H 'Content-Type: application/x-amz-json-1.1' \
      -H 'X-Amz-Target: AmazonSSM.GetParameter' --data "{\"Name\":\"$1\",\"WithDecryption\":true}" \
      "${AWS_ENDPOINT_URL_SSM:-https://ssm.$region.amazonaws.com/}" |
    node -e 'process.stdout.write(JSON.parse(require("fs").readFileSync(0, "utf8")).Parameter.Value.trimEnd() + "\n")'
}

configure_worker() {
  local name
  mkdir -p "/etc/bake" "/etc/systemd/system"
  name=$(imds instance-id) || say 'no instance metadata: the worker gets the name of this machine'
  base64 --decode <<<"$BAKE_YAML_BASE64" | write "/etc/bake/bake.yaml" 644
  if [ -n "${BAKE_GIT_KEY_PARAMETER:-}" ]; then
    ssm_parameter "$BAKE_GIT_KEY_PARAMETER" | write "/etc/bake/git-key" 600
    chown bake: /etc/bake/git-key
  fi
  {
    [ -z "$name" ] || echo "BAKE_WORKER_NAME=$name"
    echo "PATH=$home/node/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    [ -z "${BAKE_GIT_KEY_PARAMETER:-}" ] ||
      echo "GIT_SSH_COMMAND=ssh -i /etc/bake/git-key -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/var/lib/bake/known_hosts"
    [ -z "${BAKE_WORKER_ENV_BASE64:-}" ] || base64 --decode <<<"$BAKE_WORKER_ENV_BASE64"
  } | write "/etc/bake/worker.env" 640 # it may hold secrets, BAKE_SECRET_*
  write "/etc/systemd/system/bake-worker.service" 644 <"$home/lib/node_modules/bakehouse/workers/bake-worker.service"
}

add_user() {
  id -u bake >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/bake --shell /usr/sbin/nologin bake
  install -d -o bake -g bake -m 755 /var/lib/bake
}

start_all() {
  local units=/etc/systemd/system
  systemctl daemon-reload
  systemctl enable --quiet docker bake-worker
  # The package may have started it before it had its settings.
  if changed docker /etc/docker/daemon.json "$units/docker.service.d/bake.conf"; then
    systemctl restart docker
    started docker
  fi
  systemctl start docker
  # A worker that runs finishes its builds first, and nobody waits here for that.
  if changed worker /etc/bake/bake.yaml /etc/bake/worker.env "$units/bake-worker.service" "$home/package"; then
    systemctl --no-block restart bake-worker
    started worker
  fi
  systemctl --no-block start bake-worker
}

mount_cache
configure_engine
install_packages
install_node
install_bake
add_user
configure_worker
[ "$start" = no ] || start_all
say "$("$home/bin/bake" --version) is set up"
