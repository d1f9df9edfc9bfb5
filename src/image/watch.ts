import { timedOut } from '../errors.ts'
import { type AskerWatch, watchAskers } from '../jobs/asker-watch.ts'
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

/**
 * Watches over a build that runs under claim n. Its signal aborts with a BuildStopped when entry n+1 exists, everybody who asked for the key
 * has cancelled, the lease is lost or the worker is stopped, and with build_timed_out when it runs too long. `detach` is called, until it
 * succeeds, when its own asker has cancelled and others have not.
 */
export function watchClaim(
  job: ImageJob,
  n: number,
  lease: Lease,
  { ledger, pollMs, buildTimeoutMs }: ImageWorld,
  tools: Tools,
  detach: (failure: Failure, others: string[]) => Promise<void>,
): AskerWatch {
  const watch = watchAskers(
    job,
    { ledger, pollMs, timeoutMs: buildTimeoutMs },
    {
      tooLong: (ms) =>
        timedOut('build_timed_out', `the build ran for ${limitOf(ms)} and was ended`, {
          next: 'raise BAKE_BUILD_TIMEOUT_MINUTES on the worker, or make the build shorter',
        }),
      cancelled: (failure) => new BuildStopped('cancelled', failure),
      detach,
      other: async () =>
        (await ledger.get(keys.claim(job.key, n + 1))) === undefined ? undefined : new BuildStopped('taken-over'),
    },
  )
  watch.stopOn(tools.abort, () => new BuildStopped('worker-stops'))
  watch.stopOn(lease.lost, () => new BuildStopped('lease-lost'))
  return watch
}
