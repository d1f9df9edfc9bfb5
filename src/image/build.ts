import { BakeError, messageOf } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import { failpoint } from '../failpoint.ts'
import { append, type Claims, MAX_WORLD_FAILURES } from '../jobs/claims.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import { type BuildRecord, ENDED, readBuild, writeBuild } from '../jobs/records.ts'
import { buildIdTime } from '../names.ts'
import { openBuildLog } from './build-log.ts'
import { makeImage, verifyJob } from './make.ts'
import { moveBranch, tagCommit, writeImageDocument } from './publish.ts'
import { failureOf, type PublishedEntry, takeTurn } from './turn.ts'
import { BuildStopped, watchClaim } from './watch.ts'
import type { ImageWorld, Lease } from './world.ts'

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
/** A message that finds too many waiting here isn't to come back at once. */
const LATER_SECONDS = 5

/**
 * An image job from its message to its tags: the story that every worker tells. Safe to repeat from any point, because each step asks first
 * whether it was done; only creating claim log entry n+1 decides who publishes.
 */
export async function buildImage(job: ImageJob, world: ImageWorld, tools: Tools): Promise<Verdict> {
  const record = await openRecord(job, world)
  if (ENDED.has(record.status)) return { do: 'remove' }
  // By this worker's clock, like its end: the asker's may be hours away.
  record.startedAt ??= Date.now()
  try {
    for (;;) {
      const ended = await oneTurn(job, record, world, tools)
      // Another took the claim over while we were slow or paused: wait for what it makes of it, and see this job to its end.
      if (ended !== 'lost') return ended
    }
  } catch (error) {
    return settle(error, record, world, tools)
  }
}

async function oneTurn(job: ImageJob, record: BuildRecord, world: ImageWorld, tools: Tools): Promise<Verdict | 'lost'> {
  world.source(job.repository)
  const lease = world.lease()
  const turn = await takeTurn(job, lease, world, tools, (leader) => noteLeader(record, leader, world))
  await failpoint('turn')
  if (turn.kind === 'later') return { do: 'release', inSeconds: tools.drain.aborted ? 0 : LATER_SECONDS }
  if (turn.kind === 'cancelled') return await end(record, { status: 'cancelled' }, world)
  if (turn.kind === 'failed') {
    await end(record, { status: 'failed', failure: turn.failure }, world)
    return turn.bury ? { do: 'bury', reason: turn.failure.code } : { do: 'remove' }
  }
  // A commit gets the tag of an image that follows from it, whatever the job says.
  const verified = turn.kind === 'published' ? await fetchAndVerify(job, world, tools) : undefined
  const published = turn.kind === 'published' ? turn : await buildAndPublish(job, record, turn, lease, world, tools)
  if (published === 'lost' || 'do' in published) return published

  // Where the branch points is asked after the build, while the tags are put.
  const fetched = verified ?? world.source(job.repository).fetch({ commit: job.commit, branch: job.branch, signal: tools.abort })
  Promise.resolve(fetched).catch(() => {})
  await writeImageDocument(job, published, world)
  await failpoint('image-document')
  const tag = await tagCommit(job, published, world)
  await failpoint('commit-tag')
  await moveBranch(job, published, world, await fetched)
  await failpoint('branch-tag')
  const { digest, sizeBytes } = published
  const reference = `${formatTarget(world, job)}@${digest}`
  return await end(record, { status: published.own ? 'built' : 'tagged', reference, digest, tag, sizeBytes }, world)
}

async function fetchAndVerify(job: ImageJob, world: ImageWorld, { abort: signal }: Tools): Promise<{ tip?: string }> {
  const fetched = await world.source(job.repository).fetch({ commit: job.commit, branch: job.branch, signal })
  await verifyJob(job, world)
  return fetched
}

/** Builds under claim n and wins entry n+1, or says what becomes of the message; `lost`: entry n+1 is somebody else's. */
async function buildAndPublish(
  job: ImageJob,
  record: BuildRecord,
  turn: { claims: Claims; n: number; slot: number },
  lease: Lease,
  world: ImageWorld,
  tools: Tools,
): Promise<PublishedEntry | Verdict | 'lost'> {
  await using log = openBuildLog(job.build, turn.n, world)
  const { tell, redactor } = log
  Object.assign(record, { status: 'running', startedAt: Date.now(), worker: world.worker, claim: turn.n, leader: undefined })
  await writeBuild(world.ledger, record)
  await failpoint('claimed')
  await using watch = watchClaim(job, turn.n, lease, world, tools)
  try {
    const made = await makeImage(job, turn, world, { signal: watch.signal, tell, redactor })
    await failpoint('pushed')
    lease.check()
    const claims = await append(world.ledger, turn.claims, {
      state: 'published',
      build: job.build,
      owner: lease.owner,
      digest: made.digest,
      sizeBytes: made.sizeBytes,
    })
    await failpoint('published')
    if (!claims) return 'lost'
    Object.assign(record, { pushedBytes: made.pushedBytes, steps: made.steps })
    return { ...made, claims, n: claims.next - 1, own: true }
  } catch (error) {
    const reason = watch.signal.aborted ? watch.signal.reason : error
    return await giveUp(reason, job, record, turn.claims, lease.owner, world, { tell, redact: (text) => redactor.text(text) })
  }
}

/** Ends claim n as failed, so that nobody waits for its lease, and decides about the message. */
async function giveUp(
  error: unknown,
  job: ImageJob,
  record: BuildRecord,
  claims: Claims,
  owner: string,
  world: ImageWorld,
  log: { tell: (event: StoryEvent) => void | Promise<void>; redact: (text: string) => string },
): Promise<Verdict | 'lost'> {
  const entry = { state: 'failed', build: job.build, owner } as const
  if (error instanceof BuildStopped) {
    const cause = error.why === 'cancelled' ? 'cancelled' : 'released'
    if (error.why === 'superseded' || !(await append(world.ledger, claims, { ...entry, cause }))) return 'lost'
    if (error.why === 'cancelled') return end(record, { status: 'cancelled' }, world)
    const detail = `handed back by ${world.worker}, which ${error.why === 'lease-lost' ? 'lost its lease' : 'was stopped'}`
    await log.tell({ type: 'phase', phase: 'queued', t: Date.now(), detail })
    await requeue(record, world)
    return { do: 'release', inSeconds: 0 }
  }
  const raw = failureOf(error)
  const failure = { ...raw, message: log.redact(raw.message) }
  const kind = failure.kind
  // Who waits for this key adopts a user's failure; one of the job itself is no fact about the key.
  const cause = SUSPECT.has(failure.code) ? 'released' : kind
  if (!(await append(world.ledger, claims, { ...entry, cause, failure }))) return 'lost'
  const tries = claims.worldFailures(job.build) + 1
  if (kind !== 'world' || NOT_RETRIED.has(failure.code)) {
    await end(record, { status: 'failed', failure }, world)
    return kind === 'ours' || SUSPECT.has(failure.code) ? { do: 'bury', reason: failure.code } : { do: 'remove' }
  }
  if (tries >= MAX_WORLD_FAILURES) {
    await end(record, { status: 'failed', failure }, world)
    return { do: 'bury', reason: failure.code }
  }
  const inSeconds = BACKOFF_SECONDS[tries - 1]!
  await log.tell({
    type: 'retry',
    t: Date.now(),
    code: failure.code,
    message: failure.message,
    attempt: tries,
    of: MAX_WORLD_FAILURES,
    inSeconds,
  })
  await requeue(record, world)
  return { do: 'release', inSeconds }
}

/** An error outside a claim: nobody waits for us, so only the record and the message need an end. */
async function settle(error: unknown, record: BuildRecord, world: ImageWorld, tools: Tools): Promise<Verdict> {
  if (tools.abort.aborted || tools.drain.aborted) return { do: 'release', inSeconds: 0 }
  if (!(error instanceof BakeError) || error.kind !== 'world' || NOT_RETRIED.has(error.code)) {
    await end(record, { status: 'failed', failure: failureOf(error) }, world)
    if (error instanceof BakeError && !SUSPECT.has(error.code)) return { do: 'remove' }
    return { do: 'bury', reason: error instanceof BakeError ? error.code : messageOf(error).slice(0, 200) }
  }
  // Attempts are counted in the claim log; what fails before or after a claim is counted by deliveries.
  if (tools.receives < MAX_WORLD_FAILURES * 2)
    return { do: 'release', inSeconds: BACKOFF_SECONDS[Math.min(tools.receives, BACKOFF_SECONDS.length) - 1] ?? 2 }
  await end(record, { status: 'failed', failure: failureOf(error) }, world)
  return { do: 'bury', reason: error.code }
}

/** The asker's record, or one made from the job, which says all of it, when the asker died before it could write it or it is damaged. */
async function openRecord(job: ImageJob, world: ImageWorld): Promise<BuildRecord> {
  const known = await readBuild(world.ledger, job.build).catch(unlessDamaged)
  if (known) return known
  const { build, project, repository, config, commit, image, key, branch, priority, rebuild } = job
  return {
    version: 1,
    build,
    project,
    repository,
    config,
    commit,
    image,
    key,
    branch,
    priority,
    rebuild,
    status: 'queued',
    askedAt: buildIdTime(build),
  }
}

const unlessDamaged = (error: unknown): undefined => {
  if (!(error instanceof BakeError && error.code === 'ledger_damaged')) throw error
}

async function noteLeader(record: BuildRecord, leader: { build: string; claim: number }, world: ImageWorld): Promise<void> {
  if (leader.build === record.build) return
  Object.assign(record, { status: 'waiting', leader })
  await writeBuild(world.ledger, record)
}

async function requeue(record: BuildRecord, world: ImageWorld): Promise<void> {
  Object.assign(record, { status: 'queued' })
  await writeBuild(world.ledger, record)
}

async function end(record: BuildRecord, outcome: Partial<BuildRecord>, world: ImageWorld): Promise<Verdict> {
  const current = await readBuild(world.ledger, record.build).catch(unlessDamaged)
  // A second delivery of this message got here first: its end stands.
  if (current && ENDED.has(current.status)) return { do: 'remove' }
  await writeBuild(world.ledger, { ...record, leader: undefined, ...outcome, endedAt: Date.now() })
  await failpoint('recorded')
  return { do: 'remove' }
}

const formatTarget = (world: ImageWorld, job: ImageJob) => {
  const { host, path } = world.target(job.image)
  return `${host}/${path}`
}
