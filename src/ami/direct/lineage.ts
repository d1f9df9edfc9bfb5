import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { type BakeError, errnoOf, unavailable } from '../../errors.ts'
import { failpoint } from '../../failpoint.ts'
import { BUILD_ID_PATTERN, sha256 } from '../../names.ts'
import { standsOn } from '../../qcow2.ts'
import { canonical } from '../inputs.ts'
import type { MachinePlan } from '../machine.ts'
import { type BlockHashes, blocksOf, HASH_BYTES } from './hashes.ts'

/** Directory of the state directory that holds what disks are made from. */
export const LINEAGES = 'lineages'
/** A chain of overlays costs a little with each read. */
const LAST_GENERATION = 20
/** Small bases change much of what they have. */
const FREE_BLOCKS = 256

/** What tells a lineage from all others: disks of one are made from each other. */
export interface LineageId {
  /** Names what it begins with: the hash of a disk file, or region and id of an AMI. */
  base: string
  /** Of what was done to its first disk and isn't done again. */
  key: string
}

/**
 * The scripts of machine.setup run on the first disk of a lineage only, so others begin another lineage; another version of bake too: it may write other
 * files. `more`: what else decides, for example the key that snapshots are encrypted with.
 */
export function lineageOf(
  { base, setup, architecture }: Pick<MachinePlan, 'base' | 'setup' | 'architecture'>,
  version: string,
  more?: string,
): LineageId {
  const of = base.kind === 'disk' ? base.sha256 : `${base.region}/${base.id}`
  return {
    base: sha256(of).slice(0, 16),
    key: sha256(canonical({ of, version, architecture, more, setup: setup.map(({ path, text }) => [path, text]) })).slice(0, 16),
  }
}

export const headSchema = z.strictObject({
  version: z.literal(1),
  /** Bakes since the base. */
  generation: z.number().int().positive(),
  /** From the state directory. */
  file: z.string(),
  /** SHA-256 of its blocks, likewise. */
  hashes: z.string(),
  diskBytes: z.number(),
  /** Blocks that the first bake changed, and all of them together. */
  firstBlocks: z.number(),
  allBlocks: z.number(),
  release: z.string(),
  build: z.string().regex(BUILD_ID_PATTERN),
  /** Snapshot id by region, on AWS. */
  snapshots: z.record(z.string(), z.string()),
})
/** `lineages/<base>/<key>.json`: the disk that the next one is made from. Everything that it names is written before and never changes. */
export type Head = z.infer<typeof headSchema>

const baseDir = (stateDir: string, { base }: LineageId) => join(stateDir, LINEAGES, base)
const headPath = (stateDir: string, id: LineageId) => join(baseDir(stateDir, id), `${id.key}.json`)
/** The base as it was when the lineage began, raw; and its hashes. */
export const basePath = (stateDir: string, id: LineageId) => join(baseDir(stateDir, id), 'base.raw')
/** A disk that another worker baked stands on nothing here. */
const FLAT = '.raw'
export const flatPath = (stateDir: string, id: LineageId, build: string) =>
  join(baseDir(stateDir, id), `${id.key}-${build}${FLAT}`)
const hashesPath = (disk: string) => `${disk}.sha256`

/** A disk that the next one is made from. */
export interface Parent {
  path: string
  format: 'raw' | 'qcow2'
  /** 0: the base itself. */
  generation: number
  hashes: BlockHashes
  diskBytes: number
  head?: Head
}

/** A base whose copy is being made meanwhile: what is written over it stands on the copy in the end. */
export type Beginning = Parent | (Omit<Parent, 'hashes'> & { copy: Promise<Parent> })

/** The last disk of a lineage, or why the next one begins with the base. */
export async function lastDisk(stateDir: string, id: LineageId): Promise<Parent | { none: string }> {
  const head = await readHead(headPath(stateDir, id))
  if (!head) return { none: 'it is the first of this base, these setup scripts and this version of bake' }
  const none = endOf(head)
  if (none !== undefined) return { none }
  try {
    const path = join(stateDir, head.file)
    const format = path.endsWith(FLAT) ? 'raw' : 'qcow2'
    await (format === 'raw' ? stat(path) : standsOn(path))
    const hashes = await readFile(join(stateDir, head.hashes))
    if (hashes.length !== blocksOf(head.diskBytes) * HASH_BYTES) return { none: 'the hashes of the last disk are damaged' }
    return { path, format, generation: head.generation, hashes, diskBytes: head.diskBytes, head }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { none: `the last disk (release ${head.release}) is gone` }
    throw error
  }
}

/** Why no disk is made from this one any more, for all that it is there. */
export function endOf({ generation, allBlocks, firstBlocks }: Pick<Head, 'generation' | 'allBlocks' | 'firstBlocks'>) {
  if (generation >= LAST_GENERATION) return `${generation} bakes since the base are enough`
  if (allBlocks <= 2 * firstBlocks + FREE_BLOCKS) return undefined
  return `what changed since the base (${allBlocks} blocks) is more than twice a first bake (${firstBlocks})`
}

async function readHead(path: string): Promise<Head | undefined> {
  try {
    return headSchema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return undefined
  }
}

/** The base as a raw file that nobody else changes; undefined when it isn't there yet. */
export async function knownBase(stateDir: string, id: LineageId): Promise<Parent | undefined> {
  const path = basePath(stateDir, id)
  const hashes = await readFile(hashesPath(path)).catch(() => undefined)
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  )
  if (!hashes || size === undefined || hashes.length !== blocksOf(size) * HASH_BYTES) return undefined
  return { path, format: 'raw', generation: 0, hashes, diskBytes: size }
}

/** Copies the base, once. `copy` writes it and gives its hashes. Throws disk_full (exit 4). */
export async function copyBase(stateDir: string, id: LineageId, copy: (path: string) => Promise<BlockHashes>): Promise<Parent> {
  const path = basePath(stateDir, id)
  await mkdir(dirname(path), { recursive: true })
  const temporary = temporaryOf(path)
  try {
    const hashes = await copy(temporary)
    await rename(temporary, path)
    await failpoint('direct-base')
    await writeWhole(hashesPath(path), hashes)
    return { path, format: 'raw', generation: 0, hashes, diskBytes: (await stat(path)).size }
  } catch (error) {
    throw FULL.has(errnoOf(error) ?? '') ? full(path, error) : error
  } finally {
    await rm(temporary, { force: true })
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT'])
const full = (path: string, cause: unknown): BakeError =>
  unavailable('disk_full', `no space left for the base's copy, ${path}`, {
    next: 'bake prune; else free space there (df -h), or set BAKE_STATE_DIR to a directory on a larger disk',
    ids: { path },
    cause,
  })

/** Forgets the last disk, or of generation 0 the copy of the base: what is damaged is made anew. */
export async function forget(stateDir: string, id: LineageId, generation: number): Promise<void> {
  const copy = basePath(stateDir, id)
  const paths = generation > 0 ? [headPath(stateDir, id)] : [hashesPath(copy), copy]
  for (const path of paths) await rm(path, { force: true })
}

/** The next bake copies the base again. The copy stays: disks stand on it. */
export const distrustBase = (stateDir: string, id: LineageId): Promise<void> =>
  rm(hashesPath(basePath(stateDir, id)), { force: true })

/** From now on the next disk is made from this one: by one rename. */
export async function promote(stateDir: string, id: LineageId, head: Omit<Head, 'hashes'>, hashes: BlockHashes): Promise<void> {
  const path = headPath(stateDir, id)
  const former = await readHead(path)
  const own = `${path.slice(0, -'.json'.length)}-${head.build}.sha256`
  await writeWhole(own, hashes)
  await failpoint('direct-hashes')
  await writeWhole(path, JSON.stringify({ ...head, hashes: relative(stateDir, own) } satisfies Head))
  await failpoint('direct-head')
  if (former && former.build !== head.build) await rm(join(stateDir, former.hashes), { force: true })
}

/** All of it or nothing, and on the disk. */
export async function writeWhole(path: string, content: string | Buffer): Promise<void> {
  const temporary = temporaryOf(path)
  try {
    await using file = await open(temporary, 'wx')
    await file.writeFile(content)
    await file.sync()
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** A worker bakes several machines in one process. */
const temporaryOf = (path: string): string => `${path}.${randomUUID()}.tmp`
