import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../errors.ts'
import { standsOn } from '../qcow2.ts'
import { headSchema, LINEAGES } from './direct/lineage.ts'
import { NOTE } from './direct/scrub.ts'
import type { Leftover } from './prune.ts'

interface Item extends Leftover {
  remove(): Promise<boolean>
}

/** All files, absolute, that these disks stand on; one that is gone or damaged stands on nothing. */
export async function underDisks(disks: string[]): Promise<Set<string>> {
  const below = await Promise.all(disks.map((path) => standsOn(path).catch(() => [])))
  return new Set(below.flat())
}

/**
 * What is in the directories of lineages and needed by nobody: those that no disk stands on as a whole, of the others what bakes that were killed have left.
 * `disks`: all that are there and stay. Not to be asked while somebody bakes.
 */
export async function spareLineages(stateDir: string, disks: string[]): Promise<Item[]> {
  const root = join(stateDir, LINEAGES)
  const needed = await underDisks(disks)
  const items = await Promise.all(
    (await namesIn(root)).map(async (base): Promise<Item[]> => {
      const dir = join(root, base)
      const names = await namesIn(dir)
      const [heads, kept] = await headsOf(dir, names)
      const under = await underDisks(kept.map((file) => join(stateDir, file)))
      const own = (name: string) =>
        needed.has(join(dir, name)) || under.has(join(dir, name)) || kept.includes(join(LINEAGES, base, name))
      if (!names.some(own)) return [await leftover('lineage', stateDir, join(LINEAGES, base), 'no disk stands on it')]
      const needs = (name: string) =>
        own(name) || heads.has(name) || (name.endsWith('.raw.sha256') && own(name.slice(0, -'.sha256'.length)))
      const spare = names.filter((name) => !needs(name.endsWith(NOTE) ? name.slice(0, -NOTE.length) : name))
      return Promise.all(
        spare.map((name) => leftover('file', stateDir, join(LINEAGES, base, name), 'a bake that was killed left it')),
      )
    }),
  )
  return items.flat()
}

/** The files of a directory that tell of last disks, and those of these disks that are nowhere else, from the state directory. */
async function headsOf(dir: string, names: string[]): Promise<[Set<string>, string[]]> {
  const own = new Set<string>()
  const kept: string[] = []
  for (const name of names.filter((one) => one.endsWith('.json'))) {
    const text = await readFile(join(dir, name), 'utf8').catch(() => '')
    const head = headSchema.safeParse(parsed(text))
    if (!head.success) continue
    own.add(name)
    own.add(head.data.hashes.slice(head.data.hashes.lastIndexOf('/') + 1))
    if (head.data.file.startsWith(`${LINEAGES}/`)) kept.push(head.data.file)
  }
  return [own, kept]
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function leftover(kind: string, stateDir: string, id: string, why: string): Promise<Item> {
  const path = join(stateDir, id)
  const remove = async () => {
    await rm(path, { recursive: true, force: true })
    return true
  }
  const { blocks } = await stat(join(path, kind === 'lineage' ? 'base.raw' : '')).catch(() => ({ blocks: 0 }))
  return { kind, id, why, sizeBytes: blocks * 512, remove }
}

const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return []
    throw error
  })
