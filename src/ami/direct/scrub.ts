import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { errnoOf, messageOf } from '../../errors.ts'
import type { DirectWorld } from './bake.ts'
import { blocksOf, damagedBlock } from './hashes.ts'
import { distrustBase, forget, knownBase, LINEAGES, lastDisk, type Parent, writeWhole } from './lineage.ts'

export interface ScrubWorld extends Pick<DirectWorld, 'stateDir' | 'layers'> {
  /** Milliseconds since the epoch. */
  now(): number
  onProblem(text: string): void
  /** Of the time, how much is read in: above 0, up to 1. */
  share: number
  /** How long this call may take. */
  limitMs: number
}

/** Beside what it tells of: what was read of it. */
export const NOTE = '.scrub'
const noteSchema = z.strictObject({
  version: z.literal(1),
  /** When all of it had been read, ms since the epoch. */
  at: z.number().optional(),
  /** The block to go on with; 0: nothing is half read. */
  next: z.number().int().nonnegative(),
})
type Note = z.infer<typeof noteSchema>

const EVERY_MS = 24 * 3600 * 1000
/** Read at a time: 2 MiB are milliseconds, and whoever wants the machine waits no longer. */
const AT_ONCE = 4

interface Kept {
  note: string
  open(): Promise<Parent | undefined>
  /** Nothing is made from it any more; why, for a person. */
  forget(disk: Parent): Promise<string>
}

/**
 * Reads kept disks against the hashes that were recorded of them, each lineage's last disk and the copy of its base once a day: slowly, until `limitMs` are over or the
 * signal; the next call goes on there. A damaged one is forgotten, which is told. What a bake or `bake prune` takes away meanwhile is left out.
 */
export async function scrubDisks(world: ScrubWorld, signal: AbortSignal): Promise<void> {
  const ends = performance.now() + world.limitMs
  for (const kept of await keptDisks(world.stateDir)) {
    if (signal.aborted || performance.now() >= ends) return
    const note = await readNote(kept.note)
    if (note.next === 0 && note.at !== undefined && world.now() - note.at < EVERY_MS) continue
    await scrub(kept, note, ends, world, signal).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error
    })
  }
}

/** The copy of a base before what stands on it. Nobody asks for a base without any. */
async function keptDisks(stateDir: string): Promise<Kept[]> {
  const root = join(stateDir, LINEAGES)
  const kept: Kept[] = []
  for (const base of await namesIn(root)) {
    const heads = (await namesIn(join(root, base))).filter((name) => name.endsWith('.json'))
    const lasts = heads.map((name) => lastOf(stateDir, { base, key: name.slice(0, -'.json'.length) }))
    if (lasts.length > 0) kept.push(copyOf(stateDir, base), ...lasts)
  }
  return kept
}

function lastOf(stateDir: string, id: { base: string; key: string }): Kept {
  const open = async () => {
    const last = await lastDisk(stateDir, id)
    return 'none' in last ? undefined : last
  }
  return {
    note: join(stateDir, LINEAGES, id.base, `${id.key}.json${NOTE}`),
    open,
    async forget({ head, generation }) {
      // Another one was published meanwhile.
      if ((await open())?.head?.build === head?.build) await forget(stateDir, id, generation)
      const where = Object.keys(head?.snapshots ?? {}).length > 0 ? 'its snapshot or the base' : 'the base'
      return `the disk of release ${head?.release}, which the next one would have been made from, is damaged: the next bake begins with ${where}`
    },
  }
}

function copyOf(stateDir: string, base: string): Kept {
  const id = { base, key: '' }
  return {
    note: join(stateDir, LINEAGES, base, `base.raw${NOTE}`),
    open: () => knownBase(stateDir, id),
    async forget({ path }) {
      await distrustBase(stateDir, id)
      return `${path}, the copy of a base, is damaged: the next bake that begins with it copies it again`
    },
  }
}

async function scrub(
  { note: path, open, forget }: Kept,
  note: Note,
  ends: number,
  world: ScrubWorld,
  signal: AbortSignal,
): Promise<void> {
  const disk = await open()
  if (disk === undefined) return
  const found = await readOn(disk, note.next, ends, world, signal)
  if ('damage' in found) {
    const text = await forget(disk)
    await rm(path, { force: true })
    world.onProblem(`${text} (${found.damage})`)
    return
  }
  const whole = found.next === blocksOf(disk.diskBytes)
  await writeWhole(
    path,
    JSON.stringify((whole ? { version: 1, at: world.now(), next: 0 } : { ...note, ...found }) satisfies Note),
  )
}

async function readOn(
  { path, format, diskBytes, hashes }: Parent,
  from: number,
  ends: number,
  { layers, share }: ScrubWorld,
  signal: AbortSignal,
): Promise<{ next: number } | { damage: string }> {
  const end = blocksOf(diskBytes)
  // The last disk may be another one by now: what was read of the one before it counts all the same.
  let next = from < end ? from : 0
  try {
    await using disk = await layers(path, format)
    while (next < end && !signal.aborted && performance.now() < ends) {
      const began = performance.now()
      const to = Math.min(next + AT_ONCE, end)
      const damaged = await damagedBlock(disk, hashes, next, to)
      if (damaged !== undefined) return { damage: `block ${damaged} isn't what was recorded` }
      next = to
      const now = performance.now()
      const pauseMs = Math.max(0, Math.min((now - began) * (1 / share - 1), ends - now))
      if (next < end) await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {})
    }
    return { next }
  } catch (error) {
    // Tables that tell nonsense end in an error of this process, sectors that are gone in EIO.
    const errno = errnoOf(error)
    if (errno !== undefined && errno !== 'EIO' && !errno.startsWith('ERR_')) throw error
    return { damage: messageOf(error) }
  }
}

async function readNote(path: string): Promise<Note> {
  try {
    return noteSchema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return { version: 1, next: 0 }
  }
}

const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return []
    throw error
  })
