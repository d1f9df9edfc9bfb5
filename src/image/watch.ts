import { setTimeout as sleep } from 'node:timers/promises'
import { timedOut } from '../errors.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { Tools } from '../jobs/loop.ts'
import { keys } from '../names.ts'
import type { ImageWorld, Lease } from './world.ts'

/** Why a running build was stopped without having failed. */
export class BuildStopped extends Error {
  readonly why: 'superseded' | 'cancelled' | 'lease-lost' | 'worker-stops'
  constructor(why: BuildStopped['why']) {
    super(`build stopped: ${why}`)
    this.why = why
  }
}

const limitOf = (ms: number): string => (ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`)

/** A cancellation must stop a build within 5 s on whatever worker has it. */
const SLOWEST_LOOK_MS = 2_000

/**
 * Watches over a build that runs under claim n. Its signal aborts with a BuildStopped when entry n+1 exists, the build is cancelled,
 * the lease is lost or the worker is stopped, and with build_timed_out when it runs too long.
 */
export function watchClaim(
  job: ImageJob,
  n: number,
  lease: Lease,
  world: ImageWorld,
  tools: Tools,
): { signal: AbortSignal } & AsyncDisposable {
  const stopped = new AbortController()
  const over = new AbortController()
  const on = (signal: AbortSignal, why: BuildStopped['why']) => {
    const stop = () => stopped.abort(new BuildStopped(why))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true, signal: over.signal })
  }
  on(tools.abort, 'worker-stops')
  on(lease.lost, 'lease-lost')
  const late = setTimeout(
    () =>
      stopped.abort(
        timedOut('build_timed_out', `the build ran for ${limitOf(world.buildTimeoutMs)} and was ended`, {
          next: 'raise BAKE_BUILD_TIMEOUT_MINUTES on the worker, or make the build shorter',
        }),
      ),
    world.buildTimeoutMs,
  )
  const look = async () => {
    const everyMs = Math.min(SLOWEST_LOOK_MS, world.pollMs * 10)
    while (!stopped.signal.aborted && !over.signal.aborted) {
      try {
        const [next, cancelled] = await Promise.all([
          world.ledger.get(keys.claim(job.key, n + 1)),
          world.ledger.get(keys.cancel(job.build)),
        ])
        if (over.signal.aborted) return
        if (next !== undefined) stopped.abort(new BuildStopped('superseded'))
        else if (cancelled !== undefined) stopped.abort(new BuildStopped('cancelled'))
      } catch {
        // A ledger out of reach is the heartbeat's affair: it ends the lease.
      }
      await sleep(everyMs, undefined, { signal: over.signal }).catch(() => {})
    }
  }
  const looking = look()
  return {
    signal: stopped.signal,
    async [Symbol.asyncDispose]() {
      over.abort()
      clearTimeout(late)
      await looking
    },
  }
}
