import type { MachineDefinition } from '../config.ts'
import { BakeError, EXIT, type ExitCode, unavailable } from '../errors.ts'
import type { JobSender } from '../io/queue.ts'
import { noteAsker } from '../jobs/askers.ts'
import { readClaims } from '../jobs/claims.ts'
import { formatBody, type MachineJob } from '../jobs/job.ts'
import { type BuildRecord, read } from '../jobs/records.ts'
import { keys, newBuildId } from '../names.ts'
import { type Bake, type BakeAsk, planBake, recordBake } from './bake.ts'
import { recordOf } from './job-record.ts'
import type { UnrenderedPlan } from './machine.ts'
import { releaseMachineSchema } from './records.ts'
import { resolveRelease } from './release.ts'
import { readSource } from './source.ts'
import { look } from './turn.ts'
import type { BakeWorld } from './world.ts'

/** What asking a worker for a bake needs beside the rest: wired in context. */
export interface AskMachineWorld extends BakeWorld {
  project: string
  /** As jobs name it. */
  repository: string
  queue: JobSender
  /** How it is to be baked. */
  manner: Pick<MachineJob, 'baker' | 'explain'>
}

/** A bake that a worker was asked for. */
export interface AskedBake {
  build: string
  plan: UnrenderedPlan
}

/**
 * `bake ami` where workers bake: builds missing images, and puts on the queue what isn't baked; what is there is found, as by `bakeRelease`. The job has all
 * that decides the bake, so that a worker waits for nothing. Whoever has it records the release and makes the launch template version: the asker may be gone by then.
 */
export async function askForMachine(ask: BakeAsk, world: AskMachineWorld): Promise<Bake | AskedBake> {
  // Packer isn't needed here.
  const baker = async () => ({})
  const { pinned, plan, claims, seen } = await planBake(ask, { ...world, baker })
  if (seen.kind === 'found')
    return recordBake({ status: 'found', machine: seen.machine, plan }, pinned, ask, world, () => askForMachine(ask, world))
  if (plan.base.kind !== 'ami') throw new Error('only an AMI can be baked elsewhere')
  const { release, inputs } = plan
  const build = newBuildId()
  const since = ask.rebake ? { since: claims.next } : {}
  const job: MachineJob = {
    ...{ version: 1, kind: 'machine', build, project: world.project, repository: world.repository, config: world.configPath },
    ...{ commit: release.commit, release: release.name, variant: ask.variant ?? 0, inputs, base: plan.base.id },
    images: pinned.images.map(withoutSize),
    standIns: pinned.standIns.map(withoutSize),
    ...{ verify: ask.verify, ...since, makeDefault: ask.makeDefault ?? false, ...world.manner, by: world.by },
  }
  // The record last: the worker makes up for an asker that died in between, but nobody could for a message that was never sent.
  await world.queue.send('machine', formatBody(job))
  await noteAsker(world.ledger, { key: inputs, build })
  await world.ledger.create(keys.build(build), recordOf(job))
  return { build, plan }
}

/** What each of a release's machine images starts from. */
export async function basesOf(ask: BakeAsk, world: BakeWorld): Promise<MachineDefinition['base'][]> {
  const release = await resolveRelease(ask, world.commits, world.ledger)
  const { definition } = await readSource(release, world)
  return [definition, ...definition.also].map(({ base }) => base)
}

const withoutSize = ({ image, repository, digest }: MachineJob['images'][number]) => ({ image, repository, digest })

/** What a worker made of it. Throws what the bake failed with, or `cancelled` (exit 3). */
export async function bakedElsewhere({ build, plan }: AskedBake, record: BuildRecord, world: BakeWorld): Promise<Bake> {
  const status = record.machine?.did
  if (status === undefined) throw failureOf(record, plan)
  const claims = await readClaims(world.ledger, plan.inputs)
  const seen = await look(plan, claims, { verify: false, rebake: false, since: 0 }, world)
  if (seen.kind !== 'found')
    throw unavailable('machine_gone', `build ${build} baked ${record.reference}, which is gone already`, {
      next: `bake ami --release ${plan.release.name}    bakes it again`,
      ids: { build },
    })
  const link = await read(world.ledger, keys.releaseMachine(plan.release.name, plan.inputs), releaseMachineSchema)
  return { status, plan, machine: seen.machine, build, ...(link?.launch && { launch: link.launch }) }
}

function failureOf({ build, status, failure, worker }: BuildRecord, { release }: UnrenderedPlan): BakeError {
  const { kind = 'user', exit = EXIT.failed, code = status, message = `build ${build} was ${status}` } = failure ?? {}
  const next = failure?.next ?? `bake logs ${build}`
  const ids = { release: release.name, build, ...(worker !== undefined && { worker }) }
  return new BakeError(kind, exit as ExitCode, code, message, { next, ids })
}
