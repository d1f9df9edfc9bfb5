import { TAG } from '../../aws-tags.ts'
import { unavailable } from '../../errors.ts'
import type { Ebs } from '../../io/ebs.ts'
import type { Ec2Image } from '../../io/ec2-image.ts'
import type { Ec2Snapshots } from '../../io/ec2-snapshots.ts'
import { amiName } from '../ami-name.ts'
import type { BakeRun, MachinePlan } from '../machine.ts'
import { inPhase } from '../steps.ts'
import type { PreparedDisk } from './bake.ts'
import type { BaseSnapshot } from './base-snapshots.ts'
import { BLOCK_BYTES, type ChangedBlocks } from './blocks.ts'
import { absentBlocks, compareSnapshot } from './download.ts'
import { type BlockHashes, diskId } from './hashes.ts'
import { type LineageId, lastDisk, type Parent } from './lineage.ts'
import type { Pace } from './pace.ts'
import { runTags } from './register-ami.ts'
import { type ParentSnapshot, type Uploaded, type UploadWorld, uploadBlocks } from './upload.ts'

export interface SendWorld {
  stateDir: string
  snapshots(region: string): Ec2Snapshots
  ebs(region: string): Ebs
  /** One for all that a bake uploads. */
  pace: Pace
}

interface Sending {
  plan: MachinePlan
  run: BakeRun
  base: Ec2Image
}

/** Cheap, and before minutes of work: is what the last disk was uploaded as still there? */
export async function checkLast(lineage: LineageId, run: BakeRun, world: SendWorld): Promise<void> {
  const last = run.fresh ? undefined : await lastDisk(world.stateDir, lineage)
  if (last === undefined || 'none' in last) return
  await checkSnapshots(last.head?.snapshots ?? {}, { [TAG.disk]: diskId(last.hashes) }, world)
}

/** Throws parent_missing (exit 4) for snapshots, by region, that aren't there, completed and tagged so. */
export async function checkSnapshots(
  snapshots: Record<string, string>,
  tags: Record<string, string>,
  world: Pick<SendWorld, 'snapshots'>,
): Promise<void> {
  const look = async ([region, id]: [string, string]) => {
    const found = await world.snapshots(region).get(id)
    if (found?.state === 'completed' && Object.entries(tags).every(([key, value]) => found.tags[key] === value)) return
    const what = found === undefined ? 'is gone' : found.state !== 'completed' ? `is ${found.state}` : 'holds another disk'
    throw unavailable('parent_missing', `${id} in ${region}, the snapshot of the last disk, ${what}`, {
      ids: { snapshot: id, region },
    })
  }
  await Promise.all(Object.entries(snapshots).map(look))
}

export async function sendDisk(
  disk: PreparedDisk,
  bases: BaseSnapshot[],
  { plan, run, base }: Sending,
  world: SendWorld,
): Promise<Uploaded> {
  const tags = { ...runTags(plan, run), [TAG.disk]: diskId(disk.hashes) }
  const changed = await toPut(disk, bases, run, world)
  const description = `${amiName(plan, run.id)} on ${base.id}`
  const parents = bases.map((each) => parentOf(disk.parent, each))
  const uploadWorld: UploadWorld = { ...world, signal: run.signal, tell: run.tell }
  const uploaded = await uploadBlocks({ changed, parents, description, tags }, uploadWorld)
  const mib = (changed.indexes.length * BLOCK_BYTES) / 1024 ** 2
  const text = `${changed.indexes.length} blocks (${mib} MiB) put to ${parents.map(({ region }) => region).join(', ')}`
  run.tell({ type: 'note', level: 'info', text, t: Date.now() })
  // Of all later ones the parent's blocks are known to be there.
  if (disk.parent.generation > 0) return uploaded
  try {
    await inPhase('read back', run.tell, () => readBack(uploaded, bases, disk.hashes, run.signal, world))
    return uploaded
  } catch (error) {
    await uploaded[Symbol.asyncDispose]()
    throw error
  }
}

function parentOf({ head, hashes }: Parent, { region, id }: BaseSnapshot): ParentSnapshot {
  const last = head?.snapshots[region]
  return last === undefined ? { region, id } : { region, id: last, disk: diskId(hashes) }
}

/** On a volume that is encrypted what the base's snapshot lacks is random, and zeros on the disk here: with a new lineage that is put too. */
async function toPut(
  { changed, parent }: PreparedDisk,
  bases: BaseSnapshot[],
  { signal }: BakeRun,
  world: SendWorld,
): Promise<ChangedBlocks> {
  const encrypted = bases.filter((each) => each.encrypted)
  if (parent.generation > 0 || encrypted.length === 0) return changed
  const absent = await Promise.all(
    encrypted.map(({ region, id }) => absentBlocks(id, changed.diskBytes, world.ebs(region), signal)),
  )
  const indexes = [...new Set([...changed.indexes, ...absent.flat()])].sort((a, b) => a - b)
  return { ...changed, indexes }
}

async function readBack(
  { snapshots }: Uploaded,
  bases: BaseSnapshot[],
  hashes: BlockHashes,
  signal: AbortSignal,
  world: SendWorld,
): Promise<void> {
  await Promise.all(
    bases.map(({ region, encrypted }) =>
      compareSnapshot({ id: snapshots.get(region)!, encrypted }, hashes, world.ebs(region), signal),
    ),
  )
}
