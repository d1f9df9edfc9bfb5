import { rename } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { z } from 'zod'
import { failpoint } from '../../failpoint.ts'
import type { Ledger } from '../../io/ledger.ts'
import { buildIdTime, keys, sha256 } from '../../names.ts'
import { backingOf } from '../../qcow2.ts'
import type { BakeRun } from '../machine.ts'
import type { Rebase } from '../shelf-disk.ts'
import { diskId } from './hashes.ts'
import { headSchema, LINEAGES, type LineageId, promote } from './lineage.ts'
import { type PublishedHead, rememberedDisk } from './next.ts'

export interface KeptWorld {
  /** Absolute. */
  stateDir: string
  ledger: Ledger
  rebase: Rebase
  /** Who bakes: names this worker's disks in the ledger. */
  by: string
}

const publishedSchema = z.object(headSchema.omit({ hashes: true, file: true }).shape)

/** What a worker's next bake builds upon: `bake prune` leaves it, and a worker that has no disk of the lineage begins with it. */
const parentsSchema = z.object({
  version: z.literal(1),
  by: z.string(),
  at: z.number(),
  /** Snapshot id by region. */
  snapshots: z.record(z.string(), z.string()),
  /** What the snapshots' tag `bake:disk` is. */
  disk: z.string().optional(),
  head: publishedSchema.optional().catch(undefined),
})
type Parents = z.infer<typeof parentsSchema>

/** A worker that baked nothing for so long has no say any more: its next bake begins with the base. */
const KEPT_MS = 30 * 24 * 3600 * 1000

/** The disk of a run that is published is what the next one is made from, on this worker. */
export async function keepDisk(run: BakeRun, { stateDir, ledger, rebase, by }: KeptWorld): Promise<void> {
  const { lineage, disk, head, hashes } = await rememberedDisk(run)
  const from = join(run.dir, disk)
  const dir = join(stateDir, LINEAGES, lineage.base)
  const to = join(dir, `${lineage.key}-${head.build}.qcow2`)
  const backing = await backingOf(from)
  if (backing !== undefined) await rebase(from, relative(dir, backing))
  await failpoint('direct-published')
  await rename(from, to)
  await failpoint('direct-moved')
  // First: what the ledger names too much costs a little, too little a bake from the base.
  await nameParents(lineage, { head, disk: diskId(hashes) }, { stateDir, ledger, by })
  await failpoint('direct-named')
  await promote(stateDir, lineage, { ...head, file: relative(stateDir, to) }, hashes)
  await failpoint('direct-promoted')
}

/** In the ledger: what this worker's next bake of a lineage builds upon. */
export async function nameParents(
  lineage: LineageId,
  { head, disk }: { head: PublishedHead; disk: string },
  { stateDir, ledger, by }: Pick<KeptWorld, 'stateDir' | 'ledger' | 'by'>,
): Promise<void> {
  const name = `${prefixOf(lineage)}${sha256(`${by} ${stateDir}`).slice(0, 16)}`
  const { snapshots } = head
  await ledger.put(keys.parents(name), { version: 1, by, at: Date.now(), snapshots, disk, head } satisfies Parents)
}

const prefixOf = ({ base, key }: LineageId) => `${base}-${key}-`

/** Ids of snapshots that workers' next bakes are put upon. */
export async function parentSnapshots(ledger: Pick<Ledger, 'list' | 'get'>, now: number): Promise<ReadonlySet<string>> {
  return new Set((await readParents('', ledger, now)).flatMap(({ snapshots }) => Object.values(snapshots)))
}

/** The disk of a lineage that was baked last, whoever baked it; undefined when nobody tells of one. */
export async function newestHead(
  lineage: LineageId,
  ledger: Pick<Ledger, 'list' | 'get'>,
  now: number,
): Promise<{ head: PublishedHead; disk: string; by: string } | undefined> {
  const found = (await readParents(prefixOf(lineage), ledger, now)).flatMap(({ head, disk, by }) =>
    head === undefined || disk === undefined ? [] : [{ head, disk, by }],
  )
  return found.sort((a, b) => buildIdTime(b.head.build) - buildIdTime(a.head.build))[0]
}

async function readParents(prefix: string, ledger: Pick<Ledger, 'list' | 'get'>, now: number): Promise<Parents[]> {
  const found = await ledger.list(keys.parents(prefix))
  const read = await Promise.all(found.map(async (key) => parentsSchema.safeParse(await ledger.get(key).catch(() => undefined))))
  return read.flatMap((each) => (each.success && now - each.data.at < KEPT_MS ? [each.data] : []))
}
