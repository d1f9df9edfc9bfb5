import { failpoint } from '../failpoint.ts'
import { cancellationOf } from '../jobs/askers.ts'
import type { MachineJob } from '../jobs/job.ts'
import type { JobRecord } from '../jobs/job-record.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import { newBuildId } from '../names.ts'
import { type Bake, type BakeAsk, bakeRelease } from './bake.ts'
import { MachineLog } from './bake-log.ts'
import { exhausted, giveUp } from './job-end.ts'
import { openRecord } from './job-record.ts'
import { watchJob } from './job-watch.ts'
import type { MachineJobWorld } from './job-world.ts'
import { nameOf } from './records.ts'

/**
 * A machine job from its message to its end, as a worker that bakes tells it: the same bake as whoever runs `bake ami` has, under the same claim log. Safe to
 * repeat from any point: a bake that was published is found, and a release, its link and its launch template version are made once.
 */
export async function bakeMachineJob(job: MachineJob, world: MachineJobWorld, tools: Tools): Promise<Verdict> {
  const record = await openRecord(job, world)
  if (!record) {
    world.onProblem(`a job names build ${job.build}, which is another one's: sent to the dead letters`)
    return { do: 'bury', reason: 'job_mismatch' }
  }
  if (record.ended) return { do: 'remove' }
  const cancelled = await cancellationOf(world.ledger, job.build)
  if (cancelled) return record.end({ status: 'cancelled', failure: cancelled })
  const why = exhausted(record, tools.receives)
  if (why) {
    await record.end({ status: 'failed', failure: why })
    await world.announce?.({ job: job.build })
    return { do: 'bury', reason: why.code }
  }
  return await oneRun(job, record, world, tools)
}

/** Each run is a bake with an id of its own, so that what a killed one left on AWS is never taken for this one's. */
async function oneRun(job: MachineJob, record: JobRecord, world: MachineJobWorld, tools: Tools): Promise<Verdict> {
  const run = newBuildId()
  const n = record.now.claim === undefined ? 0 : record.now.claim + 1
  const before = record.now.machine!
  const runs = [...before.runs, run]
  record.now.machine = { ...before, runs }
  await using log = new MachineLog({ ...world, onIncomplete: world.onProblem }, job.build, n)
  log.story({ type: 'phase', phase: 'claimed', t: Date.now(), worker: world.worker })
  await record.running(n)
  await failpoint('machine-running')
  const letGo = async (failure: Failure, others: string[]) => {
    record.detached = true
    const text = `${failure.message}; it goes on for ${others.length === 1 ? `build ${others[0]}` : `${others.length} others`}`
    log.story({ type: 'note', t: Date.now(), level: 'info', text })
    await record.end({ status: 'cancelled', failure })
  }
  await using watch = watchJob(job, world, tools, letGo)
  let bake: Bake
  try {
    await using bakes = await world.open(job, { log, signal: watch.signal })
    bake = await bakeRelease(askOf(job, run), { ...bakes, log, idle: watch.idle, letGo: () => record.detached })
    await failpoint('machine-baked')
  } catch (error) {
    const reason = watch.signal.aborted ? watch.signal.reason : error
    await watch.end()
    // It has told of its end.
    record.now.machine = { ...before, runs: runs.filter((each) => each !== run) }
    const verdict = await giveUp(reason, record, log, world)
    // What is tried again is no end.
    if (verdict.do !== 'release') await world.announce?.(watch.signal.aborted ? { job: job.build } : { error: reason })
    return verdict
  }
  await watch.end()
  if (record.detached) return { do: 'remove' }
  const { baked } = bake.machine
  const size = baked.kind === 'disk' ? { sizeBytes: baked.sizeBytes } : {}
  const status = bake.status === 'found' ? 'tagged' : 'built'
  const machine = { ...before, runs: [run], did: bake.status }
  await log.close()
  const verdict = await record.end({ status, reference: nameOf(baked), machine, ...size })
  await world.announce?.({ bake })
  return verdict
}

const askOf = (job: MachineJob, build: string): BakeAsk => {
  const { release, commit: sha, variant, verify, since, makeDefault, inputs } = job
  const rebake = since === undefined ? { rebake: false } : { rebake: true, since }
  return { release, sha, variant, verify, ...rebake, makeDefault, inputs, build, keepFailed: false }
}
