import { hostname, userInfo } from 'node:os'
import type { ProcessId } from '../ami/work-dir.ts'
import { isAlive, processStart } from '../io/child-record.ts'

/** `user@machine`, for the others who see what this process does. */
export function whoami(): string {
  try {
    return `${userInfo().username}@${hostname()}`
  } catch {
    // A user without an entry in the machine's list, as containers have.
    return hostname()
  }
}

/** This process, as its directories and records name it. */
export const thisProcess = (): ProcessId => ({ host: hostname(), pid: process.pid, start: processStart(process.pid) ?? '' })

/** Whether a process of this machine has certainly ended. */
export const hasEnded = ({ host, pid, start }: ProcessId): boolean => host === hostname() && !isAlive(pid, start)
