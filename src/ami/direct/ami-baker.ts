import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BakeError, errnoOf, messageOf } from '../../errors.ts'
import type { Ec2Image } from '../../io/ec2-image.ts'
import type { Ec2Images } from '../../io/ec2-images.ts'
import type { AmiBase, Baked, BakeRun, Baker, MachinePlan } from '../machine.ts'
import { copyRegions } from '../registration.ts'
import { inPhase } from '../steps.ts'
import { bakeDirect, type PreparedDisk } from './bake.ts'
import type { DirectBakerWorld } from './baker.ts'
import { type BaseSnapshot, baseSnapshot } from './base-snapshots.ts'
import { downloadSnapshot } from './download.ts'
import { fetchLast } from './fetch.ts'
import { unfitMachine } from './fit.ts'
import { unfitAmi } from './fit-ami.ts'
import { type KeptWorld, keepDisk } from './kept.ts'
import { basePath, copyBase, forget, knownBase, type LineageId, lastDisk, lineageOf } from './lineage.ts'
import { rememberDisk } from './next.ts'
import { newImage, registerSnapshots } from './register-ami.ts'
import { checkLast, type SendWorld, sendDisk } from './send.ts'

export interface DirectAmiWorld extends DirectBakerWorld, KeptWorld, SendWorld {
  images(region: string): Ec2Images
}

/** What of the parents' snapshots means that they can't be built upon, whatever the reason. */
const LOST = new Set(['parent_missing', 'parent_foreign'])

/**
 * AMIs without an instance: the last disk with this base, this worker's or fetched, is changed here, what changed is put into a child of each region's last snapshot, while the
 * same disk is proven in a virtual machine, and images are registered after both. What this machine or the base isn't fit for Packer bakes, which is said.
 */
export function directAmiBaker(world: DirectAmiWorld): Baker {
  let name: Baker['name'] = 'direct'
  const other = async (reason: string, tell?: BakeRun['tell']): Promise<Baker> => {
    name = 'packer'
    tell?.({ type: 'note', level: 'warning', text: `Packer bakes, with an instance: ${reason}`, t: Date.now() })
    return world.packer()
  }
  const unfit = async (plan: MachinePlan): Promise<string | undefined> =>
    unfitMachine(await world.means(), plan.architecture) ?? unfitAmi(await imageOf(plan, world))
  return {
    get name() {
      return name
    },
    async prevalidate(plan, signal) {
      const reason = await unfit(plan)
      if (reason === undefined) return mayRegister(plan, world)
      const packer = await other(reason)
      await packer.available?.(signal)
      await packer.prevalidate(plan, signal)
    },
    async bake(plan, run) {
      const reason = await unfit(plan)
      if (reason !== undefined) return (await other(reason, run.tell)).bake(plan, run)
      try {
        return await bakeAmi(plan, run, world)
      } catch (error) {
        const why = error instanceof BakeError ? unfitAfter(error, plan) : undefined
        if (why === undefined) throw error
        const packer = await other(why, run.tell)
        await packer.available?.(run.signal)
        await packer.prevalidate(plan, run.signal)
        return packer.bake(plan, { ...run, dir: await within(run.dir, 'packer') })
      }
    },
    async published(_kept, run) {
      if (name !== 'direct') return
      // What is published stays so.
      await keepDisk(run, world).catch((error: unknown) => {
        const text = `the next bake can't be built upon this one: ${messageOf(error)}`
        run.tell({ type: 'note', level: 'warning', text, t: Date.now() })
      })
    },
  }
}

/** Why Packer may bake what couldn't be baked here; undefined: it couldn't either. An instance grows the file system with its volume as it boots, a bake here doesn't. */
function unfitAfter({ code, message, ids }: BakeError, { base, definition }: MachinePlan): string | undefined {
  if (code === 'direct_unfit') return message
  const grows = (definition.ami.volume?.sizeBytes ?? 0) > base.virtualBytes
  return code === 'bake_failed' && ids.phase === 'prepare' && grows
    ? `on a file system as large as the base's, not as machine.ami.volume.size asks: ${message.split('\n')[0]}`
    : undefined
}

async function imageOf(plan: MachinePlan, { images }: DirectAmiWorld): Promise<Ec2Image> {
  const { id, region } = amiOf(plan)
  return (await images(region).get(id)) ?? (await images(region).waitAvailable(id, AbortSignal.timeout(10_000)))
}

function amiOf({ base }: MachinePlan): AmiBase {
  if (base.kind === 'ami') return base
  throw new Error('a disk is baked on this machine')
}

/** EBS knows no DryRun; its first call names what is missing, before anything is put. */
async function mayRegister(plan: MachinePlan, world: DirectAmiWorld): Promise<void> {
  const base = await imageOf(plan, world)
  const ask = { plan, run: { id: 'check' }, base, snapshots: new Map(), diskBytes: base.rootBytes, proven: false }
  for (const region of [base.region, ...copyRegions(plan.definition, base.region)])
    await world.images(region).mayRegister(newImage(ask, base.rootSnapshot ?? ''))
}

async function within(dir: string, name: string): Promise<string> {
  const path = join(dir, name)
  await mkdir(path)
  return path
}

/** From the base to the images, in order. */
async function bakeAmi(plan: MachinePlan, run: BakeRun, world: DirectAmiWorld): Promise<Baked> {
  const base = await imageOf(plan, world)
  const bases = await inPhase('base snapshots', run.tell, () => basesOf(base, plan, run, world))
  const lineage = lineageOf(plan, world.version, JSON.stringify(bases.map(({ region, id, key }) => [region, id, key])))
  await fetchLast(lineage, { plan, run, home: bases[0]! }, world)
  try {
    return await bakeUpon(bases, lineage, { plan, run, base, keepIn: run.dir }, world)
  } catch (error) {
    if (!(error instanceof BakeError && LOST.has(error.code))) throw error
    const last = await lastDisk(world.stateDir, lineage)
    if ('none' in last) throw error
    const text = `${error.message}: this bake begins with the base`
    run.tell({ type: 'note', level: 'warning', text, t: Date.now() })
    await forget(world.stateDir, lineage, last.generation)
    const again = { ...run, dir: await within(run.dir, 'again') }
    return await bakeUpon(bases, lineage, { plan, base, run: again, keepIn: run.dir }, world)
  }
}

const basesOf = (base: Ec2Image, plan: MachinePlan, run: BakeRun, world: DirectAmiWorld): Promise<BaseSnapshot[]> => {
  const wanted = { kmsKey: plan.definition.ami.kmsKey, project: plan.project }
  const regions = [base.region, ...copyRegions(plan.definition, base.region)]
  return Promise.all(regions.map((region) => baseSnapshot(base, region, wanted, { ...world, ...run })))
}

interface Baking {
  plan: MachinePlan
  run: BakeRun
  base: Ec2Image
  /** Where `published` looks for what becomes the next one's parent. */
  keepIn: string
}

async function bakeUpon(
  bases: BaseSnapshot[],
  lineage: LineageId,
  { plan, run, base, keepIn }: Baking,
  world: DirectAmiWorld,
): Promise<Baked> {
  const { signal } = run
  await checkLast(lineage, run, world)
  await using disk = await prepare(bases[0]!, lineage, { plan, run }, world)
  for (const text of disk.explained ?? []) run.tell({ type: 'note', level: 'info', text, t: Date.now() })
  const both = new AbortController()
  const together = { ...run, signal: AbortSignal.any([signal, both.signal]) }
  const upload = inPhase('upload', run.tell, () => sendDisk(disk, bases, { plan, base, run: together }, world))
  const proof = run.prove?.({ path: disk.path, format: 'qcow2' }, together.signal)
  const [sent, proven] = await Promise.allSettled([stopping(both, upload), stopping(both, proof)])
  await using uploaded = sent.status === 'fulfilled' ? sent.value : undefined
  signal.throwIfAborted()
  if (both.signal.aborted || uploaded === undefined || proven.status === 'rejected') throw both.signal.reason
  const { snapshots } = uploaded
  const registration = {
    plan,
    run,
    base,
    snapshots,
    diskBytes: disk.changed.diskBytes,
    proven: proof !== undefined && proven.value === true,
  }
  await rememberDisk(disk, { lineage, plan, run: { id: run.id, dir: keepIn }, snapshots })
  const baked = await inPhase('register', run.tell, () => registerSnapshots(registration, world.images))
  uploaded.keep()
  return baked
}

/** The disk of the release; the base is brought here once, when it is needed. */
async function prepare(
  home: BaseSnapshot,
  lineage: LineageId,
  { plan, run }: Pick<Baking, 'plan' | 'run'>,
  world: DirectAmiWorld,
): Promise<PreparedDisk> {
  const { stateDir } = world
  const download = (to: string) => downloadSnapshot(home.id, to, world.ebs(home.region), run.signal)
  const bringBase = async () => {
    if (await knownBase(stateDir, lineage)) return
    await inPhase('base', run.tell, () => copyBase(stateDir, lineage, download))
  }
  const base = { path: basePath(stateDir, lineage), format: 'raw' as const }
  const copyDisk = async () => {
    throw new Error('the base is here already')
  }
  const bake = () => bakeDirect({ plan, lineage, base, run, explain: world.explain }, { ...world, copyDisk })
  // A disk that was fetched stands on no base.
  if (run.fresh || 'none' in (await lastDisk(stateDir, lineage))) await bringBase()
  try {
    return await bake()
  } catch (error) {
    // Its copy was damaged and thrown away, or a fetched disk was.
    if (errnoOf(error) !== 'ENOENT' || (await knownBase(stateDir, lineage))) throw error
    await bringBase()
    return await bake()
  }
}

/** The first of two that fails ends the other. */
async function stopping<T>(both: AbortController, promise: Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    both.abort(error)
    throw error
  }
}
