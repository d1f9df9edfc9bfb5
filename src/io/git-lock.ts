import { stat, unlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits of 20 ms to 0.5 s: about 6 s in all. git holds the lock of a ref for milliseconds. */
export const LOCK_RETRIES = 16
const LONGEST_WAIT_MS = 500
/** shallow.lock is held while a whole pack arrives, the others while one file is written. */
const STALE_AFTER_MS = { shallow: 15 * 60_000, other: 5_000 }

export async function waitForLock(attempt: number, signal: AbortSignal): Promise<void> {
  // Two that met once must not meet again.
  const jitter = 0.5 + Math.random()
  await sleep(Math.min(20 * 2 ** (attempt - 1), LONGEST_WAIT_MS) * jitter, undefined, { signal })
}

/** Removes the lock file that git's message names, left by a git that was killed, if it has stood there for longer than any git holds it. True: it did. */
export async function breakStaleLock(stderr: string, dir: string): Promise<boolean> {
  const path = /Unable to create '(.*\.lock)'/.exec(stderr)?.[1]
  if (path === undefined || !path.startsWith(`${dir}/`)) return false
  const since = await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  )
  const stale = path.endsWith('/shallow.lock') ? STALE_AFTER_MS.shallow : STALE_AFTER_MS.other
  // Older than that, or from the future: the clock was set back.
  if (since === undefined || Math.abs(Date.now() - since) < stale) return false
  return unlink(path).then(
    () => true,
    () => false,
  )
}
