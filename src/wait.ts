import { setTimeout as sleep } from 'node:timers/promises'
import { timedOut } from './errors.ts'

export interface WaitOptions {
  /** For the error message: "waiting for <what>". */
  what: string
  deadlineMs: number
  intervalMs: number
  signal?: AbortSignal | undefined
  /** How many successes in a row count as success; 1 unless told. */
  successes?: number
  /** Monotonic milliseconds; performance.now unless told. */
  now?: () => number
}

/** Calls `probe` until it gives something other than undefined `successes` times in a row; throws timed_out (exit 5) at the deadline, the signal's reason when aborted. */
export async function waitFor<T>(probe: () => Promise<T | undefined> | T | undefined, options: WaitOptions): Promise<T> {
  const now = options.now ?? (() => performance.now())
  const end = now() + options.deadlineMs
  for (let inARow = 0; ; ) {
    options.signal?.throwIfAborted()
    const value = await probe()
    inARow = value === undefined ? 0 : inARow + 1
    if (value !== undefined && inARow >= (options.successes ?? 1)) return value
    if (now() >= end)
      throw timedOut('timed_out', `gave up waiting for ${options.what} after ${Math.round(options.deadlineMs / 1000)} s`)
    await sleep(options.intervalMs, undefined, { signal: options.signal })
  }
}
