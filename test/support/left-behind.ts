import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { toolEnvironment } from '../../src/io/tool.ts'

/**
 * What changing disks below `dir` has left: mounts that any process of this machine sees, in whatever namespace, and loop devices. A namespace lives as long as a process or
 * a mount holds it, so that one that is left shows here or among the processes.
 */
export async function leftBehind(dir: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const mounts = await Promise.all(
    pids.map(async (pid) => {
      // It has ended meanwhile.
      const text = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')
      return text.split('\n').flatMap((line) => (line.includes(dir) ? [`${pid}: ${line}`] : []))
    }),
  )
  const { stdout } = await promisify(execFile)('losetup', ['--all'], { env: toolEnvironment() })
  return [...mounts.flat(), ...stdout.split('\n').filter((line) => line.includes(dir))]
}
