import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError, messageOf } from '../errors.ts'
import { LONG_POLL_SECONDS } from './asks.ts'
import type { Receiving } from './receive.ts'

/** A queue that fails is asked again after this long; one that isn't there yet is looked for as seldom as this. */
const RETRY_MS = 2_000
const MISSING_MS = 60_000

/** Asks the bakes' queue with long polls while there is a slot for a bake, until stopped. One that isn't there is told of once. */
export async function receiveBakes(stop: AbortSignal, options: Receiving): Promise<void> {
  const { queue, slots, visibilitySeconds, accept } = options
  const tellError = options.onQueueError ?? ((text) => options.onProblem(`queue: ${text}`))
  let missing = false
  while (!stop.aborted) {
    await slots.whenFree(stop)
    if (stop.aborted) return
    try {
      const found = await queue.receive('machine', { max: 1, waitSeconds: LONG_POLL_SECONDS, visibilitySeconds, signal: stop })
      missing = false
      await Promise.all(found.map(accept))
    } catch (error) {
      if (stop.aborted) return
      const isMissing = error instanceof BakeError && error.code === 'queue_missing'
      if (!(isMissing && missing)) tellError(messageOf(error))
      missing = isMissing
      await sleep(missing ? MISSING_MS : RETRY_MS, undefined, { signal: stop }).catch(() => {})
    }
  }
}
