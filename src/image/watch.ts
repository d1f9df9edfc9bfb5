import { setTimeout as sleep } from 'node:timers/promises'
import { timedOut } from '../errors.ts'
import { cancellationOf, liveAskers } from '../jobs/askers.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { Tools } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import { keys } from '../names.ts'
import type { ImageWorld, Lease } from './world.ts'

/** Why a running build was stopped without having failed. */
export class BuildStopped extends Error {
  readonly why: 'taken-over' | 'cancelled' | 'lease-lost' | 'worker-stops'
  /** What the record of a cancelled one says. */
  readonly failure: Failure | undefined
  constructor(why: BuildStopped['why'], failure?: Failure) {
    super(`build stopped: ${why}`)
    this.why = why
    this.failure = failure
  }
}

const limitOf = (ms: number): string => (ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`)

/** A cancellation must stop a build within 5 s on whatever worker has it. */
const SLOWEST_LOOK_MS = 2_000

export interface Watch extends AsyncDisposable {
  signal: AbortSignal
  /** No more looks; waits for the one under way. */
  end(): Promise<void>
}

/**
 * Watches over a build that runs under claim n. Its signal aborts with a BuildStopped when entry n+1 exists, everybody who asked for the key
 * has cancelled, the lease is lost or the worker is stopped, and with build_timed_out when it runs too long. `detach` is called, until it
 * succeeds, when its own asker has cancelled and others have not.
 */
export function watchClaim(
  job: ImageJob,
  n: number,
  lease: Lease,
  world: ImageWorld,
  tools: Tools,
  detach: (failure: Failure, others: string[]) => Promise<void>,
): Watch {
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
  let cancelled: Failure | undefined
  let detached = false
  const look = async () => {
    const [next, failure] = await Promise.all([
      world.ledger.get(keys.claim(job.key, n + 1)),
      cancelled ?? cancellationOf(world.ledger, job.build),
    ])
    if (over.signal.aborted) return
    if (next !== undefined) return stopped.abort(new BuildStopped('taken-over'))
    cancelled = failure
    if (!failure) return
    const others = await liveAskers(world.ledger, job.key, job.build)
    if (over.signal.aborted) return
    if (others.length === 0) return stopped.abort(new BuildStopped('cancelled', failure))
    if (!detached) await detach(failure, others)
    detached = true
  }
  const looking = (async () => {
    const everyMs = Math.min(SLOWEST_LOOK_MS, world.pollMs * 25)
    while (!stopped.signal.aborted && !over.signal.aborted) {
      // A ledger out of reach is the heartbeat's affair: it ends the lease.
      await look().catch(() => {})
      await sleep(everyMs, undefined, { signal: over.signal }).catch(() => {})
    }
  })()
  const end = async () => {
    over.abort()
    clearTimeout(late)
    await looking
  }
  return { signal: stopped.signal, end, [Symbol.asyncDispose]: end }
}
