import { BakeError, EXIT } from '../errors.ts'
import { failureOf } from '../jobs/failure.ts'
import type { JobRecord } from '../jobs/job-record.ts'
import type { Verdict } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import type { MachineLog } from './bake-log.ts'
import { BakeStopped } from './job-watch.ts'
import type { MachineJobWorld } from './job-world.ts'

/** Times that a job meets a failure of the world before it has failed: a bake costs minutes of an instance. */
const MAX_TRIES = 3
const BACKOFF_SECONDS = [2, 8]
/** Workers that one job may lose: it may be what ends them. */
const MAX_LOST = 5
/** Below what SQS itself makes dead letters at (src/setup/desired.ts), which would leave the record open. */
const MAX_DELIVERIES = 900
const LATER_SECONDS = 5
/** A bake that lost its lease begins another. */
const NEW_LEASE_SECONDS = 1
/** What no honest asker of this project sent, or one of another version of bake: kept among the dead letters, to be looked at. */
const SUSPECT = new Set(['inputs_mismatch', 'images_mismatch', 'base_mismatch', 'repository_not_allowed'])

/** Why a job isn't begun once more; undefined: it is. */
export function exhausted(record: JobRecord, receives: number): Failure | undefined {
  const { build, machine, commit } = record.now
  const next = `bake status    tells what the workers did; then ask again: bake ami --release ${machine?.release} --sha ${commit.slice(0, 12)}`
  const failure = (code: string, message: string): Failure => ({ kind: 'world', code, message, next, exit: EXIT.unavailable })
  const lost = machine?.runs.length ?? 0
  if (lost >= MAX_LOST) return failure('workers_lost', `${lost} workers were lost while they baked this`)
  if (receives > MAX_DELIVERIES)
    return failure(
      'received_too_often',
      `the message of bake ${build} was delivered ${receives} times, and no worker brought it to an end`,
    )
  return undefined
}

/** What becomes of a job and its message when its bake ended with an error. Whoever waits for the claim was told by the bake itself. */
export async function giveUp(error: unknown, record: JobRecord, log: MachineLog, world: MachineJobWorld): Promise<Verdict> {
  const stopped = stoppedBy(error)
  if (stopped && stopped.why !== 'cancelled' && !record.detached) {
    const detail = `handed back by ${world.worker}, ${stopped.because}`
    log.story({ type: 'phase', phase: 'queued', t: Date.now(), detail })
  }
  await log.close()
  if (stopped?.why === 'cancelled')
    return record.end({ status: 'cancelled', ...(stopped.failure && { failure: stopped.failure }) })
  // Whoever else asked has a message of their own.
  if (record.detached) return { do: 'remove' }
  if (stopped) {
    await record.queued()
    return { do: 'release', inSeconds: stopped.inSeconds }
  }
  const raw = failureOf(error)
  const failure = { ...raw, message: log.redact(raw.message) }
  const attempt = (record.now.retry?.attempt ?? 0) + 1
  if (failure.kind === 'world' && failure.exit !== EXIT.timedOut && attempt < MAX_TRIES) {
    const inSeconds = BACKOFF_SECONDS[attempt - 1] ?? 8
    const { code, message } = failure
    await record.retried({ t: Date.now(), code, message, attempt, of: MAX_TRIES, inSeconds })
    await record.queued()
    return { do: 'release', inSeconds }
  }
  await record.end({ status: 'failed', failure })
  return failure.kind === 'user' && !SUSPECT.has(failure.code) ? { do: 'remove' } : { do: 'bury', reason: failure.code }
}

function stoppedBy(
  error: unknown,
): { why: string; because: string; inSeconds: number; failure?: Failure | undefined } | undefined {
  if (error instanceof BakeError && error.code === 'lease_lost')
    return { why: 'lease-lost', because: 'which lost its lease', inSeconds: NEW_LEASE_SECONDS }
  if (!(error instanceof BakeStopped)) return undefined
  const { why, failure } = error
  if (why === 'later') return { why, because: 'where too many wait', inSeconds: LATER_SECONDS }
  return { why, because: 'which was stopped', inSeconds: 0, failure }
}
