import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { waitFor } from '../wait.ts'
import { killGroup } from './child.ts'

/** SIGKILL ends a process at once unless the kernel is busy writing for it. */
const GONE_MS = 5000

/**
 * What tells this incarnation of `pid` from a later process of the same number: its start in clock ticks since boot (proc(5), /proc/pid/stat field 22)
 * and the boot; on macOS what ps(1) says. No spaces or slashes. Undefined when there is no such process.
 */
export function processStart(pid: number): string | undefined {
  try {
    if (process.platform !== 'linux') {
      const started = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      return started.trim().replace(/[^0-9A-Za-z]+/g, '.') || undefined
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name is in parentheses and may hold anything, parentheses too; after it comes field 3.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (state === 'Z' || state === 'X') return undefined
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8)
    return `${fields[18]}.${boot}`
  } catch {
    return undefined
  }
}

/** True while the process that `processStart` described as `start` runs. */
export const isAlive = (pid: number, start: string): boolean => processStart(pid) === start

/** Notes in `file` that `pid` (the leader of a process group) works for the slot that owns the file. Synchronous: nothing may come between spawn and note. */
export function recordChild(file: string, pid: number): void {
  const start = processStart(pid)
  // Already over: there is nothing to find later.
  if (start !== undefined) writeFileSync(file, JSON.stringify({ pid, start }), { mode: 0o600 })
}

/** Forgets what `recordChild` noted, after the child's end. */
export const forgetChild = (file: string): void => rmSync(file, { force: true })

/**
 * Kills (SIGKILL) the process group that `file` names if its leader is still the one that was noted, waits for its end and removes the file.
 * True: something was killed. A missing or damaged file is no error. A worker does this for each of its slots when it starts.
 */
export async function killRecorded(file: string): Promise<boolean> {
  const noted = readNote(file)
  const alive = noted !== undefined && isAlive(noted.pid, noted.start)
  if (alive) {
    killGroup(noted.pid, 'SIGKILL')
    await waitFor(() => !isAlive(noted.pid, noted.start) || undefined, {
      what: `process ${noted.pid} to end`,
      deadlineMs: GONE_MS,
      intervalMs: 10,
    })
  }
  forgetChild(file)
  return alive
}

function readNote(file: string): { pid: number; start: string } | undefined {
  try {
    const note: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (typeof note !== 'object' || note === null || !('pid' in note) || !('start' in note)) return undefined
    const { pid, start } = note
    return Number.isInteger(pid) && typeof start === 'string' ? { pid: pid as number, start } : undefined
  } catch {
    return undefined
  }
}
