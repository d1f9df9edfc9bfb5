import { refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import { readClaims } from '../jobs/claims.ts'
import { Heartbeat } from '../jobs/heartbeat.ts'
import { newBuildId } from '../names.ts'
import { checkDeclared, type Pinned, type PinWorld, pinImages } from './images.ts'
import { linkRelease, releaseDocument, sameImages } from './link.ts'
import type { Baker, MachinePlan, UnrenderedPlan } from './machine.ts'
import { makeMachine } from './make.ts'
import { measurePlan } from './measure.ts'
import { planMachine, renderPlan, withSizes } from './plan.ts'
import type { LaunchVersion } from './records.ts'
import { type ReleaseAsk, recordRelease, resolveRelease } from './release.ts'
import { checkRoom } from './room.ts'
import { type MachineSource, readSource } from './source.ts'
import { inPhase } from './steps.ts'
import { look, type Machine, type Owner, type TurnAsk, takeTurn } from './turn.ts'
import { tellOfWaiting } from './waiting.ts'
import type { BakeWorld } from './world.ts'

export interface BakeAsk extends ReleaseAsk, TurnAsk {
  keepFailed: boolean
  /** Whether the launch template's new version becomes its default. */
  makeDefault?: boolean
  /** The inputs hash that whoever asked came to. */
  inputs?: string
  /** Id of the run; a new one unless told. */
  build?: string
}

export interface Bake {
  /** `found`: it was there. `proven`: it was there, only its proof was missing. */
  status: 'found' | 'baked' | 'proven'
  plan: UnrenderedPlan
  machine: Machine
  launch?: LaunchVersion
  /** The run that made it, when that is this one. */
  build?: string
}

/**
 * `bake ami`: from a release's name to a proven, recorded machine image (docs/design.md §8). Each step asks first whether it was done, and refuses what it
 * can before anything is paid for.
 */
export async function bakeRelease(ask: BakeAsk, world: BakeWorld): Promise<Bake> {
  const { source, pinned, plan, seen } = await planBake(ask, world)
  if (ask.inputs !== undefined && ask.inputs !== plan.inputs) throw otherInputs(ask.inputs, plan)
  const again = () => bakeRelease(ask, world)
  const finish = (made: Omit<Bake, 'plan'>) =>
    world.letGo?.() ? { ...made, plan } : recordBake({ ...made, plan }, pinned, ask, world, again)
  if (seen.kind === 'found') return finish({ status: 'found', machine: seen.machine })

  const baker = await world.baker(source.definition)
  const ready = await inPhase('check', world.tell, () => prevalidate(plan, source, baker, ask, world))
  const build = ask.build ?? newBuildId()
  await using owner = await beginLease(build, world)
  const signal = AbortSignal.any([world.signal, owner.lost])
  for (;;) {
    const onWait = (held: Parameters<typeof tellOfWaiting>[0]) => both(tellOfWaiting(held, world), world.idle?.())
    const turn = await takeTurn(plan, ask, { ...world, build, owner, signal, onWait })
    if (turn.kind === 'found') return await finish({ status: 'found', machine: turn.machine })
    const machine = await makeMachine({ plan: ready, ask, turn, build, owner, signal, baker }, world)
    // Another took the claim over while this process was paused: wait for what it makes of it.
    if (machine !== 'lost') return await finish({ status: turn.machine ? 'proven' : 'baked', machine, build })
  }
}

/** What is to be baked, with its images built, and whether it is there. */
export async function planBake(ask: BakeAsk, world: PlanBakeWorld) {
  const release = await resolveRelease(ask, world.commits, world.ledger)
  const source = await readSource(release, world, ask.variant)
  const base = await world.base(source.definition)
  checkDeclared(source.definition, source.images, base.architecture, world.defaultPlatform)
  const pinned = await pinImages(source, release.recorded, world)
  const plan = await planMachine(source, base, pinned, world)
  const claims = await readClaims(world.ledger, plan.inputs)
  const seen = await look(plan, claims, { ...ask, since: ask.since ?? claims.next }, world)
  return { source, pinned, plan, claims, seen }
}
type PlanBakeWorld = Omit<BakeWorld, 'baker'> & Pick<PinWorld, 'baker'>

/** Rendered by another bake, or from other images or another base than whoever asked had. */
const otherInputs = (asked: string, { inputs, release }: UnrenderedPlan) =>
  refused(
    'inputs_mismatch',
    `release ${release.name} has inputs hash ${inputs.slice(0, 12)} here, and was asked for with ${asked.slice(0, 12)}`,
    {
      next: 'the asker and this worker run different versions of bake: bring them to the same one; else ask again: bake ami',
      ids: { release: release.name, asked, inputs },
    },
  )

const both = (one: AsyncDisposable, other: AsyncDisposable | undefined): AsyncDisposable => ({
  async [Symbol.asyncDispose]() {
    await one[Symbol.asyncDispose]()
    await other?.[Symbol.asyncDispose]()
  },
})

/**
 * Records the release, which from now on is this for ever, and what it was baked as. A bake that fails records nothing: its tag may still move. Also what
 * needed no work is recorded. `again`: bakes, or asks, anew.
 */
export async function recordBake<T>(
  bake: Bake,
  pinned: Pinned,
  ask: BakeAsk,
  world: Pick<BakeWorld, 'ledger' | 'keepBase' | 'launch'>,
  again: () => Promise<T>,
): Promise<Bake | T> {
  const recorded = await recordRelease(releaseDocument(bake.plan, pinned), world.ledger)
  // Somebody else recorded it meanwhile, with images that were built anew in between: theirs count.
  if (!sameImages(recorded, pinned)) return again()
  await failpoint('ami-release')
  await world.keepBase?.()
  const launch = await linkRelease(bake.plan, bake.machine, ask, world)
  await failpoint('ami-linked')
  return launch ? { ...bake, launch } : bake
}

/** Cheap facts: the images are there, fit the machine and fit on it; the baker has what it needs. The plan as it is baked. */
async function prevalidate(
  plan: UnrenderedPlan,
  source: MachineSource,
  baker: Baker,
  { verify }: BakeAsk,
  world: BakeWorld,
): Promise<MachinePlan> {
  const images = await measurePlan(plan, await world.registry())
  checkRoom(plan.base, images, plan.definition.ami.volume?.sizeBytes)
  const ready = await renderPlan(withSizes(plan, images), source, world)
  await baker.available?.(world.signal)
  // What can't be had at all comes before what these credentials may do.
  const { name } = baker
  await world.check?.(ready, name, verify)
  await baker.prevalidate(ready, world.signal)
  // Who bakes is known by now, and may need other permissions.
  if (baker.name !== name) await world.check?.(ready, baker.name, verify)
  // A disk is proven here, also one that becomes an AMI.
  if (verify && (ready.base.kind === 'disk' || baker.name === 'direct')) (await world.prover('disk')).available?.(ready)
  return ready
}

async function beginLease(build: string, world: BakeWorld): Promise<Owner & AsyncDisposable & { lost: AbortSignal }> {
  const owner = `bake-${build}`
  const heartbeat = new Heartbeat(world.ledger, owner, { leaseMs: world.leaseMs })
  await heartbeat.start()
  const { leaseMs } = world
  return { owner, leaseMs, lost: heartbeat.lost, check: () => heartbeat.check(), [Symbol.asyncDispose]: () => heartbeat.stop() }
}
