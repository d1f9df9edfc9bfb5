import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError } from '../../errors.ts'
import type { Pace } from './pace.ts'

/** "Snapshot does not exist" was seen for up to two minutes after StartSnapshot. */
const UNSEEN_MS = 150_000
const UNSEEN_PAUSE_MS = 250
const LONGEST_UNSEEN_PAUSE_MS = 5_000
/** Lost connections and 5xx, with pauses that double. */
const ATTEMPTS = 7
const FIRST_PAUSE_MS = 200
/** Nothing at all was taken for so long. */
const REFUSED_MS = 5 * 60_000

/** What calls about the blocks of one snapshot share. */
export interface Patience {
  pace: Pace
  /** When the snapshot was begun, and the last call went well, monotonic ms. */
  startedAt: number
  wentAt: number
  signal: AbortSignal
}

/**
 * Asks about one block, as often as it takes. All that is refused for the rate slows everything that shares the pace down; what isn't seen yet is waited for. Throws
 * what EBS said last.
 */
export async function patiently<T>(call: () => Promise<T>, to: Patience): Promise<T> {
  for (let [attempt, pauseMs, unseenMs] = [1, FIRST_PAUSE_MS, UNSEEN_PAUSE_MS]; ; ) {
    await to.pace.turn(to.signal)
    try {
      const answer = await call()
      to.pace.went()
      to.wentAt = performance.now()
      return answer
    } catch (error) {
      to.signal.throwIfAborted()
      const code = error instanceof BakeError ? error.code : ''
      const now = performance.now()
      if (code === 'ec2_throttled' && now - to.wentAt < REFUSED_MS) {
        to.pace.refused()
      } else if (code === 'ebs_missing' && now - to.startedAt < UNSEEN_MS) {
        await sleep(unseenMs, undefined, { signal: to.signal })
        unseenMs = Math.min(LONGEST_UNSEEN_PAUSE_MS, unseenMs * 2)
      } else if ((code === 'ec2_unreachable' || code === 'ebs_busy') && attempt < ATTEMPTS) {
        await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal: to.signal })
        attempt++
        pauseMs *= 2
      } else throw error
    }
  }
}
