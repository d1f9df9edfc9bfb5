import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { toolEnvironment } from '../../src/io/tool.ts'

/** Where `bake base` begins the one partition. */
const OFFSET = 1024 ** 2

/**
 * Copies a disk of `bake base` to `to` and runs a shell script in its root directory, as root. The mount is the script's own: whatever ends it takes it along.
 */
export async function editDisk(disk: string, to: string, script: string): Promise<void> {
  const run = promisify(execFile)
  await run('cp', ['--sparse=always', '--', disk, to])
  const steps = `set -e; mount -o loop,offset=${OFFSET} "$1" /mnt; cd /mnt; sh -euc "$2"; cd /; umount /mnt`
  const inside = ['--mount', '--propagation', 'private', '--', 'sh', '-c', steps, 'sh', to, script]
  await run('unshare', inside, { env: toolEnvironment() })
}
