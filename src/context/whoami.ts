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

/**
 * The same, where a mistake costs more than waiting: the other one's machine must have been booted when this one was, or it may be another of the same name, as
 * containers and clones are.
 */
export const hasEndedHere = (process: ProcessId): boolean => bootOf(process) === bootOf(thisProcess()) && hasEnded(process)

/** See processStart. */
const bootOf = ({ start }: ProcessId): string => start.slice(start.lastIndexOf('.') + 1)

/** Whether a process of this machine has certainly ended. */
export const hasEnded = ({ host, pid, start }: ProcessId): boolean => host === hostname() && !isAlive(pid, start)
