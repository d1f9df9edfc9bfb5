import { BakeError, messageOf } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import { append, type Claims, MAX_WORLD_FAILURES } from '../jobs/claims.ts'
import { failureOf } from '../jobs/failure.ts'
import type { JobRecord } from '../jobs/job-record.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import { BuildStopped } from './watch.ts'
import type { ImageWorld } from './world.ts'

/** Failures of the world that trying again can't mend: the machine lacks something, the image offers no such platform, the build is too slow. */
const NOT_RETRIED = new Set([
  'platform_missing',
  'emulation_missing',
  'git_lfs_missing',
  'buildx_missing',
  'buildx_too_old',
  'engine_denied',
  'platforms_unsupported',
  'attestations_unsupported',
  'ssh_agent_missing',
  'build_timed_out',
  'ledger_damaged',
])
/** What no honest asker of this project sent, or one of another version of bake: kept among the dead letters, to be looked at. */
const SUSPECT = new Set(['key_mismatch', 'repository_not_allowed'])
const BACKOFF_SECONDS = [2, 8]
/** Failures outside of a claim that a job may meet; they are cheaper than a build's. */
const MAX_RETRIES = 5
/** Deliveries after which something must be wrong that nobody counts. Below what SQS itself makes dead letters at (src/setup/desired.ts), which would leave the record open. */
export const MAX_DELIVERIES = 900
/** A worker that lost its lease has the next one in about that time. */
const NEW_LEASE_SECONDS = 1

interface Log {
  tell: (event: StoryEvent) => void | Promise<void>
  redact: (text: string) => string
}

/** Ends claim n as failed, so that nobody waits for its lease, and decides about the message. `lost`: entry n+1 is somebody else's. */
export async function giveUp(
  error: unknown,
  record: JobRecord,
  claims: Claims,
  owner: string,
  world: ImageWorld,
  log: Log,
): Promise<Verdict | 'lost'> {
  const { build } = record.now
  const entry = { state: 'failed', build, owner } as const
  const stopped = stoppedBy(error)
  if (stopped) {
    const cause = stopped.why === 'cancelled' ? 'cancelled' : 'released'
    if (stopped.why === 'taken-over' || !(await append(world.ledger, claims, { ...entry, cause }))) return 'lost'
    if (stopped.why === 'cancelled')
      return record.end({ status: 'cancelled', ...(stopped.failure ? { failure: stopped.failure } : {}) })
    // Whoever else asked has a message of their own.
    if (record.detached) return { do: 'remove' }
    const detail = `handed back by ${world.worker}, which ${stopped.why === 'lease-lost' ? 'lost its lease' : 'was stopped'}`
    await log.tell({ type: 'phase', phase: 'queued', t: Date.now(), detail })
    await record.queued()
    return { do: 'release', inSeconds: 0 }
  }
  const raw = failureOf(error)
  const failure = { ...raw, message: log.redact(raw.message) }
  const kind = failure.kind
  // Who waits for this key adopts a user's failure; one of the job itself is no fact about the key.
  const cause = SUSPECT.has(failure.code) ? 'released' : kind
  if (!(await append(world.ledger, claims, { ...entry, cause, failure }))) return 'lost'
  const tries = claims.worldFailures(build) + 1
  if (kind !== 'world' || NOT_RETRIED.has(failure.code)) {
    await record.end({ status: 'failed', failure })
    return kind === 'ours' || SUSPECT.has(failure.code) ? { do: 'bury', reason: failure.code } : { do: 'remove' }
  }
  if (record.detached) return { do: 'remove' }
  if (tries >= MAX_WORLD_FAILURES) {
    await record.end({ status: 'failed', failure })
    return { do: 'bury', reason: failure.code }
  }
  const retry = retryOf(failure, tries, MAX_WORLD_FAILURES)
  await log.tell({ type: 'retry', ...retry })
  await record.queued()
  return { do: 'release', inSeconds: retry.inSeconds }
}

/** An error outside a claim: nobody waits for us, so only the record and the message need an end. */
export async function settle(error: unknown, record: JobRecord, world: ImageWorld, tools: Tools): Promise<Verdict> {
  if (tools.abort.aborted || tools.drain.aborted) return { do: 'release', inSeconds: 0 }
  // The worker's trouble, not the job's: it counts no attempt.
  if (stoppedBy(error)?.why === 'lease-lost') return { do: 'release', inSeconds: NEW_LEASE_SECONDS }
  const failure = failureOf(error)
  if (!(error instanceof BakeError) || error.kind !== 'world' || NOT_RETRIED.has(error.code)) {
    await record.end({ status: 'failed', failure })
    if (error instanceof BakeError && !SUSPECT.has(error.code)) return { do: 'remove' }
    return { do: 'bury', reason: error instanceof BakeError ? error.code : messageOf(error).slice(0, 200) }
  }
  // A build's attempts are counted in the claim log; what fails before or after a claim in the record.
  const attempt = (record.now.retry?.attempt ?? 0) + 1
  if (attempt < MAX_RETRIES) {
    const retry = retryOf(failure, attempt, MAX_RETRIES)
    // The ledger itself may be what failed.
    await record.retried(retry).catch((why) => world.onProblem(`build ${record.now.build}: ${messageOf(why)}`))
    return { do: 'release', inSeconds: retry.inSeconds }
  }
  await record.end({ status: 'failed', failure })
  return { do: 'bury', reason: error.code }
}

/** A message that comes back and back, with nothing in the claim log that tells why: ended here, with a record, before SQS takes it away. */
export async function tooOften(record: JobRecord, receives: number): Promise<Verdict> {
  const message = `the message of build ${record.now.build} was delivered ${receives} times, and no worker brought it to an end`
  const next = 'bake status    tells what the workers did; then ask again: bake retry'
  await record.end({ status: 'failed', failure: { kind: 'world', code: 'received_too_often', message, next, exit: 4 } })
  return { do: 'bury', reason: 'received_too_often' }
}

/** A lease that is lost is noticed by whoever watches over the build or, later after a pause, by the step that needs it. */
const stoppedBy = (error: unknown): BuildStopped | undefined => {
  if (error instanceof BuildStopped) return error
  return error instanceof BakeError && error.code === 'lease_lost' ? new BuildStopped('lease-lost') : undefined
}

function retryOf({ code, message }: Failure, attempt: number, of: number) {
  return {
    t: Date.now(),
    code,
    message,
    attempt,
    of,
    inSeconds: BACKOFF_SECONDS[Math.min(attempt, BACKOFF_SECONDS.length) - 1] ?? 2,
  }
}
