import { readFile, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { BakeRun, MachinePlan } from '../machine.ts'
import type { PreparedDisk } from './bake.ts'
import type { BlockHashes } from './hashes.ts'
import type { Head, LineageId } from './lineage.ts'

/** In the run's directory: what becomes the lineage's last disk once it is published. */
const NEXT = 'next.json'
const NEXT_HASHES = 'next.sha256'

/** A disk as others know it, who don't have its file. */
export type PublishedHead = Omit<Head, 'hashes' | 'file'>

interface Next {
  lineage: LineageId
  /** Of the disk, from the run's directory. */
  disk: string
  head: PublishedHead
}

interface OfRun {
  lineage: LineageId
  plan: MachinePlan
  run: Pick<BakeRun, 'id' | 'dir'>
  /** Snapshot id by region. */
  snapshots?: ReadonlyMap<string, string>
}

/** Until it is published nothing is built upon it. */
export async function rememberDisk({ path, parent, changed, hashes }: PreparedDisk, of: OfRun): Promise<void> {
  const { lineage, plan, run, snapshots = new Map() } = of
  const blocks = changed.indexes.length
  const head: PublishedHead = {
    version: 1,
    generation: parent.generation + 1,
    diskBytes: changed.diskBytes,
    firstBlocks: parent.head?.firstBlocks ?? blocks,
    allBlocks: (parent.head?.allBlocks ?? 0) + blocks,
    release: plan.release.name,
    build: run.id,
    snapshots: Object.fromEntries(snapshots),
  }
  await writeFile(join(run.dir, NEXT_HASHES), hashes)
  await writeFile(join(run.dir, NEXT), JSON.stringify({ lineage, disk: relative(run.dir, path), head } satisfies Next))
}

/** What a run that is published remembered. Throws ENOENT when it remembered nothing. */
export async function rememberedDisk({ dir }: Pick<BakeRun, 'dir'>): Promise<Next & { hashes: BlockHashes }> {
  const next = JSON.parse(await readFile(join(dir, NEXT), 'utf8')) as Next
  return { ...next, hashes: await readFile(join(dir, NEXT_HASHES)) }
}
