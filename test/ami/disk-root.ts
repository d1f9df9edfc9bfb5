import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import type { Rendered } from '../../src/ami/machine.ts'
import { machineKit } from '../../src/ami/render.ts'
import { spawnChild } from '../../src/io/child.ts'

export const canMount = process.platform === 'linux' && process.getuid?.() === 0

export interface DiskRoot extends Disposable {
  /** Runs a bash script in the chroot, where `step NAME` runs a step. Everything but the disk's own file system begins anew with each call. */
  run(script: string): Promise<{ status: number | null; stdout: string; stderr: string }>
}

/** In namespaces of its own: whatever ends it takes its mounts and its loop device along. Programs are this machine's. */
const SCRIPT = `set -euo pipefail
disk=$1 root=$2 kit=$3 script=$4
mount -o loop "$disk" "$root"
mkdir -p "$root"/{usr,proc,sys,dev,run,tmp,etc,var/log,var/tmp,var/lib,root,home}
for name in bin sbin lib lib64; do [ -L "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
mount --bind /usr "$root/usr"
mount -o remount,ro,bind "$root/usr"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o size=8m tmpfs "$root/usr/local"
mkdir -p "$root/run/bake-bake" "$root/usr/local/bin" "$root/usr/local/lib"
cp -r "$kit/." "$root/run/bake-bake/"
cp "$script" "$root/run/script"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 bash -euo pipefail -c 'step() { bash -euo pipefail "/run/bake-bake/steps/$1.sh"; }; . /run/script'
`

/** A small disk with a root on it, as one that is changed in a chroot: no system runs there. Needs root. */
export function makeDiskRoot(rendered: Rendered, sizeMiB = 48, mkfs = 'mkfs.ext4 -q -F'): DiskRoot {
  const dir = mkdtempSync(join(tmpdir(), 'bake-disk-root-'))
  const [disk, root, kit, script] = ['disk.img', 'root', 'kit', 'script'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
    string,
  ]
  mkdirSync(root)
  for (const { path, text, mode } of machineKit(rendered)) {
    mkdirSync(dirname(join(kit, path)), { recursive: true })
    writeFileSync(join(kit, path), text, { mode })
  }
  const made = spawnSync('sh', ['-c', `truncate --size="$2"M "$1" && ${mkfs} "$1"`, 'sh', disk, String(sizeMiB)], {
    encoding: 'utf8',
  })
  if (made.status !== 0) throw new Error(made.stderr)
  const base = `printf 'root:x:0:0::/root:/bin/bash\\nann:x:1000:1000::/home/ann:/bin/bash\\n' >/etc/passwd
printf 'root:x:0:\\n' >/etc/group
mkdir -p /home/ann
`
  const run = async (text: string) => {
    writeFileSync(script, base + text)
    await using child = spawnChild(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        '--pid',
        '--fork',
        '--kill-child',
        'bash',
        '-c',
        SCRIPT,
        'bash',
        disk,
        root,
        kit,
        script,
      ],
      { stdout: 'pipe', stderr: 'pipe' },
    )
    const [stdout, stderr, { code }] = await Promise.all([readAll(child.stdout!), readAll(child.stderr!), child.exited])
    return { status: code, stdout, stderr }
  }
  return { run, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) }
}
