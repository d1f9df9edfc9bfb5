import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { TAG } from '../../aws-tags.ts'
import { messageOf, unavailable } from '../../errors.ts'
import type { BakeRun, MachinePlan } from '../machine.ts'
import { inPhase } from '../steps.ts'
import type { DirectWorld } from './bake.ts'
import type { BaseSnapshot } from './base-snapshots.ts'
import { downloadOver, downloadSnapshot } from './download.ts'
import { type BlockHashes, diskId } from './hashes.ts'
import { type KeptWorld, nameParents, newestHead } from './kept.ts'
import { endOf, flatPath, knownBase, type LineageId, lastDisk, promote } from './lineage.ts'
import { checkSnapshots, type SendWorld } from './send.ts'

export interface FetchWorld extends Pick<KeptWorld, 'stateDir' | 'ledger' | 'by'>, Pick<SendWorld, 'snapshots' | 'ebs'> {
  copyDisk: DirectWorld['copyDisk']
}

interface Fetching {
  plan: Pick<MachinePlan, 'project'>
  run: BakeRun
  /** Of the base, in the region whose blocks are read. */
  home: BaseSnapshot
}

type Newest = NonNullable<Awaited<ReturnType<typeof newestHead>>>

/**
 * Where this worker has no disk of a lineage, the one that was published last, by whichever worker, is made anew from the blocks of its snapshot, and is the last disk here
 * from then on. When it isn't what the ledger says of it, or can't be had, the lineage is left as it is, which is told: the bake begins with the base.
 */
export async function fetchLast(lineage: LineageId, { plan, run, home }: Fetching, world: FetchWorld): Promise<void> {
  if (run.fresh || !('none' in (await lastDisk(world.stateDir, lineage)))) return
  let what = 'the last disk of other workers'
  try {
    const newest = await newestHead(lineage, world.ledger, Date.now())
    if (newest === undefined || endOf(newest.head) !== undefined) return
    const { head, disk, by } = newest
    what = `the disk of release ${head.release}, by ${by},`
    await checkSnapshots(head.snapshots, { [TAG.disk]: disk, [TAG.project]: plan.project }, world)
    const blocks = await inPhase('fetch', run.tell, () => fetchDisk(newest, lineage, home, run, world))
    run.tell({ type: 'note', level: 'info', text: `${what} is fetched: ${blocks}`, t: Date.now() })
  } catch (error) {
    run.signal.throwIfAborted()
    const text = `${what} can't be fetched: ${messageOf(error)}: this bake begins with the base`
    run.tell({ type: 'note', level: 'warning', text, t: Date.now() })
  }
}

/** Which blocks were read, in words. */
async function fetchDisk(
  { head, disk }: Newest,
  lineage: LineageId,
  home: BaseSnapshot,
  run: BakeRun,
  world: FetchWorld,
): Promise<string> {
  const { stateDir } = world
  const snapshot = head.snapshots[home.region]
  if (snapshot === undefined) throw new Error(`it has no snapshot in ${home.region}`)
  const path = flatPath(stateDir, lineage, head.build)
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${run.id}.tmp`
  await using undo = new AsyncDisposableStack()
  undo.defer(() => rm(temporary, { force: true }))
  const { hashes, what } = await download(snapshot, temporary, lineage, home, run, world)
  if (diskId(hashes) !== disk)
    throw unavailable('disk_damaged', `what ${snapshot} in ${home.region} holds isn't that disk`, {
      ids: { snapshot, region: home.region },
    })
  await rename(temporary, path)
  // Whoever baked it may go on to the next one, and then nobody else names it.
  await nameParents(lineage, { head, disk }, world)
  await promote(stateDir, lineage, { ...head, file: relative(stateDir, path) }, hashes)
  return what
}

/** Of a worker that has the base what differs from it, where EBS tells that; else all blocks. */
async function download(
  snapshot: string,
  path: string,
  lineage: LineageId,
  home: BaseSnapshot,
  { signal }: BakeRun,
  { stateDir, ebs, copyDisk }: FetchWorld,
): Promise<{ hashes: BlockHashes; what: string }> {
  const from = ebs(home.region)
  const base = await knownBase(stateDir, lineage)
  const changed = base && (await from.listChangedBlocks({ snapshot, since: home.id }, signal).catch(() => undefined))
  if (base !== undefined && changed !== undefined) {
    const hashes = await copyDisk({ path: base.path, format: 'raw' }, path, signal)
    if (hashes.equals(base.hashes)) {
      await downloadOver({ snapshot, blocks: changed }, { path, hashes }, from, signal)
      return { hashes, what: `${changed.length} blocks that the base has otherwise` }
    }
    // The copy is damaged, which whoever builds upon it finds.
    await rm(path)
  }
  return { hashes: await downloadSnapshot(snapshot, path, from, signal), what: 'all its blocks' }
}
