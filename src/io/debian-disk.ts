import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { failed, unavailable } from '../errors.ts'
import { spawnChild } from './child.ts'
import { assertTools } from './machine-tools.ts'
import { toolEnvironment } from './tool.ts'

const TOOLS = ['unshare', 'mmdebstrap', 'mkfs.ext4', 'extlinux', 'fstrim']
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** The script takes its mounts down, and dpkg its locks. */
const GRACE_MS = 10_000
const TAIL_LINES = 15
const PHASE = /^bake-phase: (\S+) (begin|end)$/
/** mmdebstrap's milestones, without dpkg's thousand lines. */
const MILESTONE = /^I: (running|downloading|extracting|installing|cleaning)\b/

export interface DebianDiskRequest {
  /** templates/base/debian.sh */
  script: string
  /** Made; whatever the script leaves beside it when it is killed begins with this path too. */
  disk: string
  bytes: number
  /** Made: `name<TAB>version` of what is installed. */
  packageList: string
  signal: AbortSignal
  onPhase(phase: string, state: 'begin' | 'end'): void
  onLine(line: string): void
}

/**
 * What making a disk needs of this machine, before anything is made. Throws needs_root, base_architecture, tool_missing or keyring_missing (exit 4).
 */
export function assertCanMakeDebian(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw unavailable(
      'base_architecture',
      `bake base makes amd64 disks on amd64 Linux, and this is ${process.platform} ${process.arch}`,
      {
        next: 'take a cloud image of your architecture with Docker and cloud-init as machine.base.disk',
      },
    )
  if (process.getuid?.() !== 0)
    throw unavailable('needs_root', 'making a disk takes root: it is mounted, and packages are installed into it', {
      next: 'sudo bake base',
    })
  assertTools(TOOLS)
  if (!existsSync(KEYRING))
    throw unavailable('keyring_missing', `${KEYRING} is not there: nothing says which packages are Debian's`, {
      next: 'apt-get install debian-archive-keyring',
    })
}

/** Runs the script to its end. Throws base_failed (exit 3) with the last lines of what went wrong; aborted, the signal's reason. */
export async function makeDebianDisk(request: DebianDiskRequest): Promise<void> {
  const { script, disk, bytes, packageList, signal } = request
  await using child = spawnChild('bash', [script, disk, String(bytes), packageList], {
    env: toolEnvironment(),
    stdout: 'pipe',
    stderr: 'pipe',
    signal,
    graceMs: GRACE_MS,
  })
  const tail: string[] = []
  let phase = 'start'
  const onLine = (line: string) => {
    const [, name, state] = PHASE.exec(line) ?? []
    if (name !== undefined) {
      if (state === 'begin') phase = name
      request.onPhase(name, state as 'begin' | 'end')
      return
    }
    tail.push(line)
    if (tail.length > TAIL_LINES) tail.shift()
    if (MILESTONE.test(line)) request.onLine(line.slice('I: '.length))
  }
  const read = (stream: NodeJS.ReadableStream) =>
    new Promise((resolve) => createInterface({ input: stream }).on('line', onLine).once('close', resolve))
  const [exit] = await Promise.all([child.exited, read(child.stdout!), read(child.stderr!)])
  signal.throwIfAborted()
  if (exit.code === 0) return
  throw failed('base_failed', `the disk couldn't be made, in phase ${phase}:\n${tail.join('\n')}`, {
    next: 'see the messages above; when packages are not found: apt-get update, or BAKE_DEBIAN_MIRROR=URL of a Debian mirror',
    ids: { phase },
  })
}
