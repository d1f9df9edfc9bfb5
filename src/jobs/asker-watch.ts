import { setTimeout as sleep } from 'node:timers/promises'
import type { Ledger } from '../io/ledger.ts'
import { cancellationOf, liveAskers } from './askers.ts'
import type { Failure } from './records.ts'

/** A cancellation is acted on within 5 s on whatever worker has the job. */
const SLOWEST_LOOK_MS = 2_000

export interface AskerWatch extends AsyncDisposable {
  /** Of whoever works for them. */
  signal: AbortSignal
  stop(reason: Error): void
  /** Aborts with `stop(reason)` as soon as `signal` aborts. */
  stopOn(signal: AbortSignal, reason: () => Error): void
  /** No more looks; waits for the one under way. */
  end(): Promise<void>
}

/** A job, and what it is asked for by: an image's key, or a machine image's inputs. */
interface Watched {
  build: string
  key: string
}

interface WatchWorld {
  ledger: Ledger
  pollMs: number
  timeoutMs: number
}

interface Reasons {
  tooLong(ms: number): Error
  /** Everybody who asked has. */
  cancelled(failure: Failure): Error
  /** Called, until it succeeds, when the job's own asker has cancelled and others have not. */
  detach(failure: Failure, others: string[]): Promise<void>
  /** What else ends the work: asked at each look, and counts before a cancellation. */
  other?(): Promise<Error | undefined>
}

/** Watches over a job while it runs: its signal aborts when nobody wants it any more, or it runs too long. */
export function watchAskers({ build, key }: Watched, world: WatchWorld, reasons: Reasons): AskerWatch {
  const stopped = new AbortController()
  const over = new AbortController()
  const late = setTimeout(() => stopped.abort(reasons.tooLong(world.timeoutMs)), world.timeoutMs)
  let cancelled: Failure | undefined
  let detached = false
  const look = async () => {
    const [other, failure] = await Promise.all([reasons.other?.(), cancelled ?? cancellationOf(world.ledger, build)])
    if (over.signal.aborted) return
    if (other) return stopped.abort(other)
    cancelled = failure
    if (!failure) return
    const others = await liveAskers(world.ledger, key, build)
    if (over.signal.aborted) return
    if (others.length === 0) return stopped.abort(reasons.cancelled(failure))
    if (!detached) await reasons.detach(failure, others)
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
  return {
    signal: stopped.signal,
    stop: (reason) => stopped.abort(reason),
    stopOn(signal, reason) {
      const stop = () => stopped.abort(reason())
      if (signal.aborted) stop()
      signal.addEventListener('abort', stop, { once: true, signal: over.signal })
    },
    end,
    [Symbol.asyncDispose]: end,
  }
}
