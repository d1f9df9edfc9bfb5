import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { spawnChild } from './child.ts'
import type { FoundFileSystem } from './disk-file-systems.ts'
import { missingTools } from './machine-tools.ts'
import { toolEnvironment } from './tool.ts'

/** What the script uses beside coreutils and util-linux. */
const TOOLS = ['unshare', 'nsenter', 'mount', 'losetup', 'findmnt', 'qemu-img', 'qemu-storage-daemon', 'slirp4netns', 'iptables']
const FILES = ['/dev/fuse', '/dev/net/tun', '/dev/loop-control']
const UNFIT = /^bake-unfit: (.+)$/

export interface DiskChange {
  /** templates/direct/change.sh */
  script: string
  /** Absolute; has disk.qcow2, which is written, and kit/. */
  dir: string
  /** Where the root's may lie. */
  roots: FoundFileSystem[]
  /** `first`: nothing of bake's is on the disk. */
  mode: 'first' | 'next'
  /** Where changed files lie is written to `dir`/extents. */
  explain: boolean
  /** TCP ports of this machine's loopback that are reached in there too. */
  ports: number[]
  signal: AbortSignal
  onLine(line: string): void
}

/** `done`: the disk is changed, and closed. `unfit`: why it can't be changed here. `failed`: a step failed, as its lines tell. */
export type ChangeEnd = { kind: 'done' } | { kind: 'unfit'; reason: string } | { kind: 'failed'; how: string }

/** What changing disks lacks on this machine: commands and devices. */
export function missingForDisks(): string[] {
  return [...missingTools(TOOLS), ...FILES.filter((path) => !existsSync(path))]
}

/**
 * Runs the script to its end. It works in namespaces of its own, so that nothing stays mounted or running whatever ends it or this process. Aborted, it
 * throws the signal's reason.
 */
export async function changeDisk({ script, dir, roots, mode, explain, ports, signal, onLine }: DiskChange): Promise<ChangeEnd> {
  const where = roots.map(({ type, offset, length }) => `${type}:${offset}:${length}`).join(',')
  await using child = spawnChild('bash', [script, dir, where, mode, explain ? 'explain' : 'quiet', ...ports.map(String)], {
    env: toolEnvironment(),
    stdout: 'pipe',
    stderr: 'pipe',
    signal,
  })
  let unfit: string | undefined
  const read = (stream: NodeJS.ReadableStream) => {
    const lines = createInterface({ input: stream })
    lines.on('line', (line) => {
      const reason = UNFIT.exec(line)?.[1]
      if (reason === undefined) onLine(line)
      else unfit = reason
    })
    return once(lines, 'close')
  }
  const [exit] = await Promise.all([child.exited, read(child.stdout!), read(child.stderr!)])
  signal.throwIfAborted()
  if (unfit !== undefined) return { kind: 'unfit', reason: unfit }
  return exit.code === 0 ? { kind: 'done' } : { kind: 'failed', how: exit.signal ?? `exit code ${exit.code}` }
}
