import { hash, randomUUID } from 'node:crypto'
import { TAG } from '../../aws-tags.ts'
import { BakeError, messageOf, unavailable } from '../../errors.ts'
import { failpoint } from '../../failpoint.ts'
import type { Ebs } from '../../io/ebs.ts'
import type { Ec2Tags } from '../../io/ec2.ts'
import type { Ec2Snapshots } from '../../io/ec2-snapshots.ts'
import type { MachineEvent } from '../machine.ts'
import type { ChangedBlocks } from './blocks.ts'
import type { Pace } from './pace.ts'
import { patiently } from './patience.ts'

/** A region's snapshot, upon which the blocks are put. */
export interface ParentSnapshot {
  region: string
  id: string
  /** What its tag `bake:disk` must be; absent: it is a base, or a copy of one. */
  disk?: string
}

export interface Upload {
  changed: ChangedBlocks
  /** One per region. */
  parents: ParentSnapshot[]
  description: string
  /** With the run's, so that what is left is found. */
  tags: Ec2Tags
}

export interface UploadWorld {
  ebs(region: string): Pick<Ebs, 'start' | 'putBlock' | 'complete'>
  snapshots(region: string): Pick<Ec2Snapshots, 'get' | 'waitCompleted' | 'remove'>
  pace: Pace
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/** Snapshots that are completed. Disposed of they are deleted, unless they were kept. */
export interface Uploaded extends AsyncDisposable {
  /** Snapshot id by region. */
  readonly snapshots: ReadonlyMap<string, string>
  keep(): void
}

/** Blocks of one region that are under way; of each, 512 KiB are in memory. */
const IN_FLIGHT = 24

/**
 * A snapshot in each region, of the parent there and the blocks that changed: all regions at once, each block read and hashed once. What EBS acknowledged and lost
 * is found by the checksum over all of them, and that region is uploaded once more. Nothing stays on any way out but SIGKILL's: then `bake prune` finds it by its
 * run. Throws parent_missing, parent_foreign, upload_damaged, ec2_denied, … (exit 4).
 */
export async function uploadBlocks(upload: Upload, world: UploadWorld): Promise<Uploaded> {
  await Promise.all(upload.parents.map((parent) => checkParent(parent, upload.changed, world)))
  await using undo = new AsyncDisposableStack()
  const started = await all(upload.parents.map((parent) => start(parent, upload, world, undo)))
  await failpoint('direct-started')
  const digests = await putAll(started, upload.changed, world)
  await failpoint('direct-put')
  const ended = await Promise.allSettled(started.map((target) => seal(target, digests, world)))
  const snapshots = new Map(started.map(({ region, id }) => [region, id]))
  for (const [at, each] of ended.entries()) {
    if (each.status === 'fulfilled') continue
    if (!isDamage(each.reason)) throw each.reason
    snapshots.set(upload.parents[at]!.region, await again(upload.parents[at]!, started[at]!, each.reason, upload, world, undo))
  }
  await failpoint('direct-completed')
  const made = undo.move()
  let kept = false
  return {
    snapshots,
    keep() {
      kept = true
    },
    async [Symbol.asyncDispose]() {
      if (!kept) await made.disposeAsync()
    },
  }
}

/** A diff against one disk upon another one would be a wrong image that nobody notices. */
async function checkParent({ region, id, disk }: ParentSnapshot, changed: ChangedBlocks, world: UploadWorld): Promise<void> {
  const found = await world.snapshots(region).get(id)
  const ids = { snapshot: id, region }
  if (found?.state !== 'completed')
    throw unavailable('parent_missing', `the parent snapshot ${id} in ${region} is ${found?.state ?? 'gone'}`, { ids })
  const is = found.tags[TAG.disk]
  if (disk !== undefined && is !== disk)
    throw unavailable(
      'parent_foreign',
      `the parent snapshot ${id} in ${region} holds another disk (${is ?? 'untagged'}, not ${disk})`,
      { ids },
    )
  if (found.volumeBytes > Math.ceil(changed.diskBytes / 2 ** 30) * 2 ** 30)
    throw unavailable('parent_foreign', `the parent snapshot ${id} in ${region} is larger than the disk`, { ids })
}

interface Started {
  region: string
  id: string
  ebs: Pick<Ebs, 'putBlock' | 'complete'>
  startedAt: number
  wentAt: number
}

async function start(
  { region, id: parent }: ParentSnapshot,
  { changed, description, tags }: Upload,
  world: UploadWorld,
  undo: AsyncDisposableStack,
): Promise<Started> {
  world.signal.throwIfAborted()
  const ebs = world.ebs(region)
  // Of this start alone: a second upload in the same run is another snapshot, perhaps of another parent.
  const asked = { volumeBytes: changed.diskBytes, parent, description, tags, token: randomUUID() }
  const id = await ebs.start(asked).catch((error: unknown) => {
    if (!(error instanceof BakeError) || error.code !== 'ebs_missing') throw error
    throw unavailable('parent_missing', error.message, { ids: { snapshot: parent, region }, cause: error })
  })
  undo.defer(() => removeOrNote(region, id, world))
  const now = performance.now()
  return { region, id, ebs, startedAt: now, wentAt: now }
}

/** SHA-256 of each block, in the order of their indexes. */
async function putAll(targets: Started[], { indexes, read }: ChangedBlocks, { pace, signal }: UploadWorld): Promise<Buffer[]> {
  const digests: Buffer[] = []
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  const puttings = targets.map((target) => ({ ...target, pace, signal: stop }))
  const put = async (at: number) => {
    const index = indexes[at]!
    const data = await read(index)
    const digest = hash('sha256', data, 'buffer')
    digests[at] = digest
    const common = { index, data, checksum: digest.toString('base64'), progress: Math.floor((at / indexes.length) * 100) }
    await all(puttings.map((to) => patiently(() => to.ebs.putBlock({ ...common, snapshot: to.id }, stop), to)))
  }
  // Alone: while a new snapshot "doesn't exist" yet, one that asks is enough.
  if (indexes.length > 0) await put(0)
  let next = 1
  const lane = async () => {
    while (next < indexes.length) {
      const at = next++
      if (at === Math.ceil(indexes.length / 2)) await failpoint('direct-half')
      await put(at)
    }
  }
  const lanes = Array.from({ length: IN_FLIGHT }, () =>
    lane().catch((error: unknown) => {
      over.abort(error)
      throw error
    }),
  )
  // What was under way has ended before anything is taken back.
  await all(lanes)
  return digests
}

async function seal({ region, id, ebs }: Started, digests: Buffer[], world: UploadWorld): Promise<void> {
  const checksum = hash('sha256', Buffer.concat(digests), 'base64')
  await ebs.complete(id, { blocks: digests.length, checksum })
  await world.snapshots(region).waitCompleted(id, world.signal)
}

/** EBS has other blocks than were sent, by its answer to CompleteSnapshot or by what became of the snapshot. */
const isDamage = (error: unknown): boolean =>
  error instanceof BakeError && (error.code === 'snapshot_failed' || error.code === 'ec2_refused')

async function again(
  parent: ParentSnapshot,
  { region, id }: Started,
  first: unknown,
  upload: Upload,
  world: UploadWorld,
  undo: AsyncDisposableStack,
): Promise<string> {
  const text = `what EBS has of ${id} in ${region} is not what was sent (${messageOf(first)}): it is uploaded once more`
  world.tell({ type: 'note', level: 'warning', text, t: Date.now() })
  await removeOrNote(region, id, world)
  const target = await start(parent, upload, world, undo)
  try {
    await seal(target, await putAll([target], upload.changed, world), world)
    return target.id
  } catch (error) {
    if (!isDamage(error)) throw error
    throw unavailable('upload_damaged', `EBS in ${region} lost blocks of two uploads: ${messageOf(error)}`, {
      ids: { region, snapshot: target.id },
      next: 'bake again; https://health.aws.amazon.com tells of EBS in this region',
      cause: error,
    })
  }
}

/** What went wrong before counts, not this. */
async function removeOrNote(region: string, id: string, world: UploadWorld): Promise<void> {
  await world
    .snapshots(region)
    .remove(id)
    .catch((error: unknown) => {
      const text = `the snapshot ${id} in ${region} is left, which bake prune removes: ${messageOf(error)}`
      world.tell({ type: 'note', level: 'warning', text, t: Date.now() })
    })
}

/** As Promise.all, but none is left under way when one failed. */
async function all<T>(promises: Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(promises)
  return ended.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
}
