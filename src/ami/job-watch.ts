import { timedOut } from '../errors.ts'
import { watchAskers } from '../jobs/asker-watch.ts'
import type { MachineJob } from '../jobs/job.ts'
import type { Tools } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import type { MachineJobWorld } from './job-world.ts'

/** Why a bake was stopped without having failed. `later`: too many wait on this worker. */
export class BakeStopped extends Error {
  readonly why: 'cancelled' | 'worker-stops' | 'later'
  /** What the record of a cancelled one says. */
  readonly failure: Failure | undefined
  constructor(why: BakeStopped['why'], failure?: Failure) {
    super(`bake stopped: ${why}`)
    this.why = why
    this.failure = failure
  }
}

export interface JobWatch extends AsyncDisposable {
  signal: AbortSignal
  stop(why: BakeStopped['why']): void
  /** While another's bake of the same inputs is waited for: the slot is somebody else's. */
  idle(): AsyncDisposable
  /** No more looks; waits for the one under way. */
  end(): Promise<void>
}

/**
 * Watches over a job while it runs. Its signal aborts with a BakeStopped when everybody who asked for these inputs has cancelled or the worker is stopped, and
 * with bake_timed_out when it runs too long. `detach` is called, until it succeeds, when its own asker has cancelled and others have not. Who bakes under
 * which claim is the bake's own affair.
 */
export function watchJob(
  { build, inputs }: MachineJob,
  world: MachineJobWorld,
  tools: Tools,
  detach: (failure: Failure, others: string[]) => Promise<void>,
): JobWatch {
  const cancelled = (failure: Failure) => new BakeStopped('cancelled', failure)
  const watch = watchAskers({ build, key: inputs }, world, { tooLong, cancelled, detach })
  watch.stopOn(tools.abort, () => new BakeStopped('worker-stops'))
  const stop = (why: BakeStopped['why']) => watch.stop(new BakeStopped(why))
  return { ...watch, stop, idle: () => withoutSlot(tools, stop) }
}

/** A worker that leaves waits for nobody. */
function withoutSlot({ place, drain, abort }: Tools, stop: (why: BakeStopped['why']) => void): AsyncDisposable {
  const over = new AbortController()
  const leave = () => stop('worker-stops')
  if (!place.wait()) stop('later')
  if (drain.aborted) leave()
  drain.addEventListener('abort', leave, { once: true, signal: over.signal })
  return {
    async [Symbol.asyncDispose]() {
      await place.slot(AbortSignal.any([drain, abort])).catch(leave)
      over.abort()
    },
  }
}

const tooLong = (ms: number) =>
  timedOut('bake_timed_out', `the bake ran for ${Math.round(ms / 60_000)} min and was ended`, {
    next: 'raise BAKE_BUILD_TIMEOUT_MINUTES on the worker',
  })
