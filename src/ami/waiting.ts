import { followLog } from '../jobs/logs.ts'
import { phaseOf } from './steps.ts'
import type { Look } from './turn.ts'
import type { BakeWorld } from './world.ts'

/** Says whose bake is waited for, and tells that one's phases until it is disposed of. */
export function tellOfWaiting(held: Extract<Look, { kind: 'held' }>, world: BakeWorld): AsyncDisposable {
  const { build, by, log } = held
  world.tell({
    type: 'note',
    level: 'info',
    text: `${by} bakes the same inputs now (build ${build}): waiting for it`,
    t: Date.now(),
  })
  const over = new AbortController()
  const follow = async () => {
    for await (const event of followLog(world.ledger, log, { signal: over.signal, pollMs: world.pollMs })) {
      const told = phaseOf(event)
      if (told) world.tell(told)
    }
  }
  // The claim log says what becomes of it, whether its log can be read or not.
  const following = follow().catch(() => {})
  return {
    async [Symbol.asyncDispose]() {
      over.abort()
      await following
    },
  }
}
