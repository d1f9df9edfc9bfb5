import { relative } from 'node:path'
import { BakeError } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import { append } from '../jobs/claims.ts'
import type { Failure } from '../jobs/records.ts'
import { keys } from '../names.ts'
import type { BakeAsk } from './bake.ts'
import { type BakeLog, openBakeLog } from './bake-log.ts'
import { earlyProof } from './early-proof.ts'
import { proofHash } from './inputs.ts'
import type { Baked, BakeRun, Baker, Base, MachinePlan, Proof } from './machine.ts'
import { type BakeRecord, documentDigest, type MachineDocument, writeBake } from './records.ts'
import { inPhase } from './steps.ts'
import type { Machine, Owner, Turn } from './turn.ts'
import { openWorkDir } from './work-dir.ts'
import type { BakeWorld } from './world.ts'

export interface Making {
  plan: MachinePlan
  ask: Pick<BakeAsk, 'verify' | 'keepFailed' | 'rebake'>
  /** With a machine: it is only proven. */
  turn: Extract<Turn, { kind: 'ours' }>
  build: string
  owner: Owner
  signal: AbortSignal
  baker: Baker
}

/**
 * Bakes, proves, keeps and publishes under claim n; `lost`: entry n + 1 is somebody else's. On every other way out nothing stays but record and log and,
 * with keepFailed, what was made. Throws what the baker or the prover throws.
 */
export async function makeMachine(making: Making, world: BakeWorld): Promise<Machine | 'lost'> {
  const { turn, build, owner } = making
  const record = recordOf(making, world)
  await writeBake(world.ledger, record)
  await failpoint('ami-claimed')
  const end = (outcome: Partial<BakeRecord>) => writeBake(world.ledger, { ...record, ...outcome, endedAt: Date.now() })
  const onIncomplete = (text: string) => world.tell({ type: 'note', level: 'warning', text, t: Date.now() })
  await using log = world.log?.ofBake() ?? openBakeLog({ ...world, onIncomplete }, build, turn.n)
  try {
    const machine = await bakeAndPublish(making, record, log, world)
    await end({ status: machine === 'lost' ? 'lost' : 'baked' })
    return machine
  } catch (error) {
    const cancelled = world.signal.aborted
    const told = cancelled ? error : failureOf(error, making, log)
    const failure: Failure | undefined = told instanceof BakeError ? toRecord(told) : undefined
    const cause = cancelled ? 'cancelled' : told instanceof BakeError ? told.kind : 'ours'
    const entry = { state: 'failed', build, owner: owner.owner, cause, ...(failure && !cancelled && { failure }) } as const
    // The claim may be somebody else's by now, or the ledger out of reach: the first error is the one that counts.
    await append(world.ledger, turn.claims, entry).catch(() => {})
    await end({ status: cancelled ? 'cancelled' : 'failed', ...(failure && { failure }) }).catch(() => {})
    throw told
  }
}

const recordOf = ({ plan, turn, build, owner }: Making, { by, process, log }: BakeWorld): BakeRecord => ({
  ...{ version: 1, build, project: plan.project, release: plan.release.name, commit: plan.release.commit, inputs: plan.inputs },
  ...{ status: 'running', owner: owner.owner, leaseMs: owner.leaseMs, claim: turn.n, by, process, startedAt: Date.now() },
  ...(log && { log: log.prefix }),
})

async function bakeAndPublish(making: Making, record: BakeRecord, log: BakeLog, world: BakeWorld): Promise<Machine | 'lost'> {
  const { ask, build, signal } = making
  await using work = await openWorkDir(world.stateDir, build, world.process)
  await failpoint('ami-dir')
  const tell: BakeRun['tell'] = (event) => {
    world.tell(event)
    log.tell(event)
  }
  const run = async (name: string): Promise<BakeRun> => {
    const dir = await work.make(name)
    return { id: build, dir, signal, tell, hide: log.hide, keepFailed: ask.keepFailed, fresh: ask.rebake }
  }
  await using undo = new AsyncDisposableStack()
  try {
    return await bakeIn({ ...making, run, tell, undo, log, record }, world)
  } catch (error) {
    if (ask.keepFailed && !world.signal.aborted) {
      work.keep()
      undo.move()
    }
    throw error
  }
}

interface Baking extends Making {
  record: BakeRecord
  log: BakeLog
  tell: BakeRun['tell']
  run(name: string): Promise<BakeRun>
  /** Takes away what was made. */
  undo: AsyncDisposableStack
}

async function bakeIn({ run, tell, undo, log, record, ...making }: Baking, world: BakeWorld): Promise<Machine | 'lost'> {
  const { plan, ask, turn, build, owner, signal, baker } = making
  const shelf = await world.shelf(plan.base.kind)
  // What is published already stays.
  const discardLater = (made: Baked) => {
    if (!turn.machine) undo.defer(() => shelf.discard(made))
  }
  const early = earlyProof(plan, run, tell, world)
  const bakeRun = { ...(await run('bake')), ...(ask.verify && { prove: early.prove }) }
  const baked = turn.machine?.baked ?? (await baker.bake(plan, bakeRun))
  discardLater(baked)
  await failpoint('ami-baked')
  signal.throwIfAborted()
  const prove = async () => (await world.prover(plan.base.kind)).prove(baked, plan, await run('proof'))
  const proof = ask.verify ? await early.rest(() => inPhase('proof', tell, prove)) : undefined
  await failpoint('ami-proven')
  owner.check()
  const kept = turn.machine ? baked : await inPhase('keep', tell, () => shelf.keep(baked, plan, turn.n))
  discardLater(kept)
  await failpoint('ami-kept')

  const document = documentOf(making, record, { baked: kept, proof, phases: log.phases }, world)
  await world.ledger.put(keys.machine(plan.inputs, turn.n), document)
  await failpoint('ami-recorded')
  owner.check()
  // From here on only the claim log knows whether it is published: a ledger that doesn't answer must not cost the machine.
  undo.move()
  const sizeBytes = kept.kind === 'disk' ? kept.sizeBytes : 0
  const entry = { state: 'published', build, owner: owner.owner, digest: documentDigest(document), sizeBytes } as const
  const published = await append(world.ledger, turn.claims, entry)
  await failpoint('ami-published')
  if (published) {
    if (!turn.machine) await baker.published?.(kept, bakeRun)
    return { document, baked: kept, n: turn.n }
  }
  if (!turn.machine) await shelf.discard(kept)
  return 'lost'
}

interface Made {
  baked: Baked
  proof: Proof | undefined
  phases: MachineDocument['phases']
}

function documentOf({ plan, turn, baker }: Making, record: BakeRecord, made: Made, world: BakeWorld): MachineDocument {
  const before = turn.machine?.document
  return {
    version: 1,
    build: record.build,
    inputs: plan.inputs,
    project: plan.project,
    release: before?.release ?? plan.release.name,
    commit: before?.commit ?? plan.release.commit,
    architecture: plan.architecture,
    baker: before?.baker ?? baker.name,
    base: baseOf(plan.base),
    services: plan.services.map(({ name, image, reference: { repository, digest } }) => ({
      service: name,
      image,
      repository,
      digest,
    })),
    image: imageOf(made.baked, world.stateDir),
    ...(made.proof && { proof: { ...made.proof, asked: proofHash(plan) } }),
    phases: [...(before?.phases ?? []), ...made.phases],
    startedAt: before?.startedAt ?? record.startedAt,
    bakedAt: before?.bakedAt ?? Date.now(),
  }
}

const baseOf = (base: Base): MachineDocument['base'] =>
  base.kind === 'disk'
    ? { kind: 'disk', path: base.path, sha256: base.sha256, firmware: base.firmware }
    : { kind: 'ami', region: base.region, id: base.id, name: base.name, createdAt: base.createdAt }

const imageOf = (baked: Baked, stateDir: string): MachineDocument['image'] =>
  baked.kind === 'ami'
    ? baked
    : { kind: 'disk', file: relative(stateDir, baked.path), format: baked.format, sizeBytes: baked.sizeBytes }

/** The error with the way to its log, and without secrets. */
function failureOf(error: unknown, { build, ask, plan }: Making, log: BakeLog): unknown {
  if (!(error instanceof BakeError)) return error
  const { kind, exit, code, ids } = error
  const kept = ask.keepFailed ? `what was made is kept (bake prune removes it)` : undefined
  const next = [error.next, `bake logs ${build}    shows all of it`, kept].filter(Boolean).join('\n      ')
  return new BakeError(kind, exit, code, log.redact(error.message), {
    next,
    ids: { release: plan.release.name, build, ...ids },
    cause: error,
  })
}

const toRecord = ({ kind, code, message, exit, next }: BakeError): Failure => ({
  kind,
  code,
  message,
  exit,
  ...(next && { next }),
})
