import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { FoundFileSystem } from './disk-file-systems.ts'
import { askHelper, type HelperWay } from './disk-helper.ts'
import { missingTools } from './machine-tools.ts'

/** What the script uses beside coreutils and util-linux. */
const TOOLS = [
  'unshare',
  'nsenter',
  'setpriv',
  'mount',
  'losetup',
  'findmnt',
  'qemu-img',
  'qemu-storage-daemon',
  'slirp4netns',
  'iptables',
]
const FILES = ['/dev/fuse', '/dev/net/tun', '/dev/loop-control']
/** What the helper says of an end. */
const LAST = /^bake-(unfit|exit): (.+)$/

export interface DiskChange {
  way: HelperWay
  /** templates/direct/helper.sh */
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

/** What changing disks lacks on this machine: commands and devices. Those of a service are its own, and hidden from who asks it. */
export function missingForDisks(way: HelperWay | undefined): string[] {
  return [...missingTools(TOOLS), ...(way === 'service' ? [] : FILES.filter((path) => !existsSync(path)))]
}

/**
 * Has the helper run the steps to their end. It works in namespaces of its own, so that nothing stays mounted or running whatever ends it or this process.
 * Aborted, it throws the signal's reason when nothing is left.
 */
export async function changeDisk({
  way,
  script,
  dir,
  roots,
  mode,
  explain,
  ports,
  signal,
  onLine,
}: DiskChange): Promise<ChangeEnd> {
  signal.throwIfAborted()
  const where = roots.map(({ type, offset, length }) => `${type}:${offset}:${length}`).join(',')
  const helper = askHelper(way, script, [dir, where, mode, explain ? 'explain' : 'quiet', ports.join(',')])
  let unfit: string | undefined
  let code: number | undefined
  const read = (stream: NodeJS.ReadableStream) => {
    const lines = createInterface({ input: stream })
    // Only a stream's last line counts: a step may print the like.
    let last: number | undefined
    lines.on('line', (line) => {
      const [, kind, said = ''] = LAST.exec(line) ?? []
      if (line !== '') last = kind === 'exit' ? Number(said) : undefined
      if (kind === 'unfit') unfit = said
      else if (kind === undefined && line !== '') onLine(line)
    })
    // A connection that breaks off; `ended` tells why.
    stream.once('error', () => lines.close())
    const closed = once(lines, 'close').catch(() => {})
    return closed.then(() => {
      code = last ?? code
    })
  }
  signal.addEventListener('abort', helper.hangUp, { once: true })
  try {
    const [{ ok, how }] = await Promise.all([helper.ended, ...helper.output.map(read)])
    signal.throwIfAborted()
    if (unfit !== undefined) return { kind: 'unfit', reason: unfit }
    if (code === undefined) return { kind: 'failed', how }
    return code === 0 && ok ? { kind: 'done' } : { kind: 'failed', how: code === 0 ? how : `exit code ${code}` }
  } finally {
    signal.removeEventListener('abort', helper.hangUp)
    helper.hangUp()
  }
}
