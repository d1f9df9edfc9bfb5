import { failpoint } from '../failpoint.ts'
import { append, type Claims } from '../jobs/claims.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { JobRecord } from '../jobs/job-record.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import { formatReference } from '../reference.ts'
import { openBuildLog } from './build-log.ts'
import { giveUp, MAX_DELIVERIES, settle, tooOften } from './give-up.ts'
import { openRecord } from './job-record.ts'
import { writeLatest } from './latest.ts'
import { makeImage, verifyJob } from './make.ts'
import { moveBranch, tagCommit, writeImageDocument } from './publish.ts'
import { type PublishedEntry, takeTurn } from './turn.ts'
import { watchClaim } from './watch.ts'
import type { ImageWorld, Lease } from './world.ts'

/** A message that finds too many waiting here isn't to come back at once, and less and less often: each delivery counts. */
const LATER_SECONDS = 5
const LATEST_SECONDS = 60
const later = (receives: number): number => Math.min(LATEST_SECONDS, LATER_SECONDS * receives)

/**
 * An image job from its message to its tags: the story that every worker tells. Safe to repeat from any point, because each step asks first
 * whether it was done; only creating claim log entry n+1 decides who publishes.
 */
export async function buildImage(job: ImageJob, world: ImageWorld, tools: Tools): Promise<Verdict> {
  const record = await openRecord(job, world)
  if (!record) {
    world.onProblem(`a job names build ${job.build}, which is another one's: sent to the dead letters`)
    return { do: 'bury', reason: 'job_mismatch' }
  }
  if (record.ended) return { do: 'remove' }
  if (tools.receives > MAX_DELIVERIES) return tooOften(record, tools.receives)
  // By this worker's clock, like its end: the asker's may be hours away.
  record.now.startedAt ??= Date.now()
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

async function oneTurn(job: ImageJob, record: JobRecord, world: ImageWorld, tools: Tools): Promise<Verdict | 'lost'> {
  world.source(job.repository)
  const lease = world.lease()
  const turn = await takeTurn(job, lease, world, tools, (leader) => record.waiting(leader))
  await failpoint('turn')
  if (turn.kind === 'later') return { do: 'release', inSeconds: tools.drain.aborted ? 0 : later(tools.receives) }
  if (turn.kind === 'cancelled') return record.end({ status: 'cancelled', failure: turn.failure })
  if (turn.kind === 'superseded') return record.end({ status: 'superseded', supersededBy: turn.by, failure: turn.failure })
  if (turn.kind === 'failed') {
    await record.end({ status: 'failed', failure: turn.failure })
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
  if (published.own) await writeLatest(job, published, world)
  // It was built for the others that asked, who tag their own commits.
  if (record.detached) return { do: 'remove' }
  const tag = await tagCommit(job, published, world)
  await failpoint('commit-tag')
  await moveBranch(job, published, world, await fetched)
  await failpoint('branch-tag')
  const { digest, sizeBytes } = published
  const reference = formatReference({ ...world.target(job.image), digest })
  return await record.end({ status: published.own ? 'built' : 'tagged', reference, digest, tag, sizeBytes })
}

async function fetchAndVerify(job: ImageJob, world: ImageWorld, { abort: signal }: Tools): Promise<{ tip?: string }> {
  const fetched = await world.source(job.repository).fetch({ commit: job.commit, branch: job.branch, signal })
  await verifyJob(job, world)
  return fetched
}

/** Builds under claim n and wins entry n+1, or says what becomes of the message; `lost`: entry n+1 is somebody else's. */
async function buildAndPublish(
  job: ImageJob,
  record: JobRecord,
  turn: { claims: Claims; n: number; slot: number },
  lease: Lease,
  world: ImageWorld,
  tools: Tools,
): Promise<PublishedEntry | Verdict | 'lost'> {
  await using log = openBuildLog(job.build, turn.n, world)
  const { tell, redactor } = log
  const phase = (name: 'claimed' | 'tagging') => tell({ type: 'phase', phase: name, t: Date.now(), worker: world.worker })
  const before = turn.claims.entries[turn.n - 1]
  await record.running(turn.n, before?.state === 'claimed' ? before.owner : undefined)
  await phase('claimed')
  await failpoint('claimed')
  await using watch = watchClaim(job, turn.n, lease, world, tools, async (failure, others) => {
    record.detached = true
    const text = `${failure.message}; it goes on for ${others.length === 1 ? `build ${others[0]}` : `${others.length} others`}`
    await tell({ type: 'note', t: Date.now(), level: 'info', text })
    await record.end({ status: 'cancelled', failure })
  })
  try {
    const made = await makeImage(job, turn, world, { signal: watch.signal, tell, redactor })
    await failpoint('pushed')
    lease.check()
    await failpoint('publishing')
    const claims = await append(world.ledger, turn.claims, {
      state: 'published',
      build: job.build,
      owner: lease.owner,
      digest: made.digest,
      sizeBytes: made.sizeBytes,
    })
    await failpoint('published')
    if (!claims) return 'lost'
    await watch.end()
    if (!record.detached) await phase('tagging')
    Object.assign(record.now, { pushedBytes: made.pushedBytes, steps: made.steps, warmth: made.warmth })
    return { ...made, claims, n: claims.next - 1, own: true }
  } catch (error) {
    const reason = watch.signal.aborted ? watch.signal.reason : error
    await watch.end()
    return await giveUp(reason, record, turn.claims, lease.owner, world, { tell, redact: (text) => redactor.text(text) })
  }
}
