import { BakeError, messageOf } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import { append, type Claims, MAX_WORLD_FAILURES } from '../jobs/claims.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import type { JobRecord } from './job-record.ts'
import { failureOf } from './turn.ts'
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
/** Deliveries that a job may fail in outside of a claim; several go to each try. */
const MAX_DELIVERIES = MAX_WORLD_FAILURES * 2

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
  if (error instanceof BuildStopped) {
    const cause = error.why === 'cancelled' ? 'cancelled' : 'released'
    if (error.why === 'taken-over' || !(await append(world.ledger, claims, { ...entry, cause }))) return 'lost'
    if (error.why === 'cancelled')
      return record.end({ status: 'cancelled', ...(error.failure ? { failure: error.failure } : {}) })
    // Whoever else asked has a message of their own.
    if (record.detached) return { do: 'remove' }
    const detail = `handed back by ${world.worker}, which ${error.why === 'lease-lost' ? 'lost its lease' : 'was stopped'}`
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
  const failure = failureOf(error)
  if (!(error instanceof BakeError) || error.kind !== 'world' || NOT_RETRIED.has(error.code)) {
    await record.end({ status: 'failed', failure })
    if (error instanceof BakeError && !SUSPECT.has(error.code)) return { do: 'remove' }
    return { do: 'bury', reason: error instanceof BakeError ? error.code : messageOf(error).slice(0, 200) }
  }
  // Attempts are counted in the claim log; what fails before or after a claim is counted by deliveries.
  if (tools.receives < MAX_DELIVERIES) {
    const retry = retryOf(failure, tools.receives, MAX_DELIVERIES)
    // The ledger itself may be what failed.
    await record.retried(retry).catch((why) => world.onProblem(`build ${record.now.build}: ${messageOf(why)}`))
    return { do: 'release', inSeconds: retry.inSeconds }
  }
  await record.end({ status: 'failed', failure })
  return { do: 'bury', reason: error.code }
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
