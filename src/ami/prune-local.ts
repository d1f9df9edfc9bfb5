import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf } from '../errors.ts'
import { append, type Claims, readClaims } from '../jobs/claims.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import { BUILD_ID_PATTERN, buildIdTime, KEY_PATTERN, keys, newBuildId, sha256 } from '../names.ts'
import { type ListWorld, listReleases } from './list.ts'
import type { Leftover, PrunePart } from './prune.ts'
import { spareLineages, underDisks } from './prune-lineages.ts'
import { type BakeRecord, readBake, readMachine } from './records.ts'
import { MACHINES } from './shelf-disk.ts'
import { BAKES, ownerOf, type ProcessId } from './work-dir.ts'

export interface LocalPruneWorld extends ListWorld {
  host: string
  /** Whether a process of this machine has certainly ended. */
  ended(process: ProcessId): boolean
  /** How many releases, the newest, keep their machine images; all when undefined. */
  keep?: number | undefined
}

/** Of a directory that tells nothing of its owner: nothing takes this long to write a line. */
const UNOWNED_MS = 24 * 3600 * 1000

interface Item extends Leftover {
  remove(): Promise<boolean>
}

/**
 * What bakes leave in this machine's state directory: directories of bakes that are dead, disks that no published record names and, with `keep`, those of
 * older releases. Nothing of a bake that lives. No grace between two passes: a bake's life is known here, and a disk in use is gone only when it is closed.
 */
export function localPart(world: LocalPruneWorld): PrunePart {
  const find = async () => {
    const { dead, living } = await bakeDirectories(world)
    return [...dead, ...(await spareDisks(living, world))]
  }
  return {
    name: `local-${sha256(`${world.host}\0${world.stateDir}`).slice(0, 12)}`,
    graceMs: 0,
    find: async () => (await find()).map(({ remove: _, ...leftover }) => leftover),
    remove: async ({ id }) => (await find()).find((item) => item.id === id)?.remove() ?? false,
  }
}

interface BakeDirectories {
  dead: Item[]
  /** Of those that somebody may work in, absolute. */
  living: string[]
}

async function bakeDirectories(world: LocalPruneWorld): Promise<BakeDirectories> {
  const ids = (await namesIn(join(world.stateDir, BAKES))).filter((name) => BUILD_ID_PATTERN.test(name))
  const found: BakeDirectories = { dead: [], living: [] }
  for (const id of ids) {
    const path = join(world.stateDir, BAKES, id)
    const why = await deathOf(id, path, world)
    const remove = async () => {
      await rm(path, { recursive: true, force: true, maxRetries: 3 })
      return true
    }
    if (why === undefined) found.living.push(path)
    else found.dead.push({ kind: 'bake directory', id: `${BAKES}/${id}`, why, remove })
  }
  return found
}

/** Why nobody works in a directory any more; undefined: somebody may. */
async function deathOf(id: string, path: string, world: LocalPruneWorld): Promise<string | undefined> {
  const record = await readBake(world.ledger, id).catch(() => undefined)
  if (record) {
    if (await lives(record, world)) return undefined
    return `the bake of release ${record.release} ${record.status === 'running' ? 'was killed' : `has ended (${record.status})`}`
  }
  const owner = await ownerOf(path)
  if (owner) return world.ended(owner) ? `its process ${owner.pid} has ended` : undefined
  return Date.now() - buildIdTime(id) < UNOWNED_MS ? undefined : 'nothing tells whose it is'
}

const lives = async ({ status, process, owner, leaseMs }: BakeRecord, { ledger, ended }: LocalPruneWorld): Promise<boolean> =>
  status === 'running' && !ended(process) && (await isAlive(ledger, owner, leaseMs))

/** Disks that nothing needs and no other stands on, and what only such disks stood on. */
async function spareDisks(living: string[], world: LocalPruneWorld): Promise<Item[]> {
  const root = join(world.stateDir, MACHINES)
  const shorts = await namesIn(root)
  const kept = world.keep === undefined ? undefined : await keptInputs(world, world.keep)
  const unnamed = (await Promise.all(shorts.map((short) => disksOf(short, kept, world)))).flat()
  const names = await Promise.all(
    shorts.map(async (short) => (await namesIn(join(root, short))).map((name) => join(root, short, name))),
  )
  const disks = names.flat()
  // Where a disk is being made, Packer's aside, which stand alone.
  const begun = living.map((path) => join(path, 'bake/disk.qcow2'))
  const goes = new Set(unnamed.map(({ id }) => join(world.stateDir, id)))
  const under = await underDisks([...disks.filter((path) => !goes.has(path)), ...begun])
  const spare = unnamed.filter(({ id }) => !under.has(join(world.stateDir, id)))
  // Whoever bakes may be about to stand on one.
  return living.length > 0 ? spare : [...spare, ...(await spareLineages(world.stateDir, disks))]
}

/** Inputs hashes that the newest releases were baked under. */
async function keptInputs(world: LocalPruneWorld, keep: number): Promise<Set<string>> {
  const { releases } = await listReleases(world)
  return new Set(releases.slice(0, keep).flatMap(({ machines }) => machines.map(({ inputs }) => inputs)))
}

async function disksOf(short: string, kept: Set<string> | undefined, world: LocalPruneWorld): Promise<Item[]> {
  const logs = await Promise.all((await hashesOf(short, world)).map((inputs) => readClaims(world.ledger, inputs)))
  for (const log of logs) if (await isHeld(log, world)) return []
  const named = new Map((await Promise.all(logs.map((log) => fileOf(log, world)))).flat())
  const names = await namesIn(join(world.stateDir, MACHINES, short))
  const items = await Promise.all(
    names.map(async (name): Promise<Item[]> => {
      const file = `${MACHINES}/${short}/${name}`
      const path = join(world.stateDir, file)
      const claims = named.get(file)
      if (claims && kept?.has(claims.key) !== false) return []
      const why = claims ? `none of the newest ${world.keep} releases has it` : 'no published record names it'
      const remove = async () => {
        // First: whoever asks for it from now on bakes it anew.
        if (claims && !(await withdraw(claims, world))) return false
        await rm(path, { force: true })
        await rmdir(dirname(path)).catch(() => {})
        return true
      }
      return [{ kind: 'disk', id: file, why, sizeBytes: (await stat(path)).size, remove }]
    }),
  )
  return items.flat()
}

/** The whole hashes of a directory of disks: by what was recorded, or only claimed. */
async function hashesOf(short: string, { ledger }: LocalPruneWorld): Promise<string[]> {
  const found = await Promise.all([keys.machines, 'claims/'].map((root) => ledger.list(`${root}${short}`)))
  const hashes = found.flat().map((key) => key.split('/')[1] ?? '')
  return [...new Set(hashes)].filter((hash) => KEY_PATTERN.test(hash))
}

async function isHeld({ holder }: Claims, world: LocalPruneWorld): Promise<boolean> {
  if (!holder) return false
  const record = await readBake(world.ledger, holder.build).catch(() => undefined)
  return record ? lives(record, world) : isAlive(world.ledger, holder.owner, holder.leaseMs)
}

/** The disk that a claim log has published, if it has. */
async function fileOf(claims: Claims, { ledger }: LocalPruneWorld): Promise<[string, Claims][]> {
  const { key, published } = claims
  const document = published && (await readMachine(ledger, key, published.n - 1, published.digest))
  return document?.image.kind === 'disk' ? [[document.image.file, claims]] : []
}

async function withdraw(claims: Claims, { ledger }: LocalPruneWorld): Promise<boolean> {
  const entry = { state: 'withdrawn', build: newBuildId(), digest: claims.published!.digest, reason: 'missing' } as const
  return (await append(ledger, claims, entry)) !== undefined
}

const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  })
