import { existsSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Bake, bakeRelease } from '../../src/ami/bake.ts'
import { findRelease } from '../../src/ami/list.ts'
import { prunePart } from '../../src/ami/prune.ts'
import { localPart } from '../../src/ami/prune-local.ts'
import { newBuildId } from '../../src/names.ts'
import { ASK, hold, MACHINE_FILES, makeBakeWorld, type TestWorld } from '../support/bake-world.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'

let registry: TestRegistry
let repo: TestRepo
let world: TestWorld
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())
beforeEach(async () => {
  repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  await writeFile(join(repo.dir, 'base.raw'), 'a base')
  world = await makeBakeWorld({ dir: repo.dir, registry: registry.host })
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
  await repo[Symbol.asyncDispose]()
})

const prune = (options: { keep?: number; dryRun?: boolean } = {}) =>
  prunePart(localPart({ ...world, host: hostname(), keep: options.keep }), world.ledger, { dryRun: options.dryRun ?? false })
const pathOf = ({ machine: { baked } }: Bake): string => (baked.kind === 'disk' ? baked.path : '')

async function bake(release: string, content: string): Promise<Bake> {
  await repo.commit({ 'web/content': content })
  await repo.git('tag', release)
  return bakeRelease({ ...ASK, release }, world)
}

test('what is published stays, with all of its releases', async () => {
  const made = await bake('v2', 'two\n')
  expect([await prune(), await prune()]).toEqual([[], []])
  expect(existsSync(pathOf(made))).toBe(true)
})

test('a live bake is left alone, before and after its disk has its place', async () => {
  const gate = hold()
  world.proving = gate.wait
  const baking = bake('v2', 'two\n')
  await gate.entered()
  expect(await prune()).toEqual([])
  const [id] = await readdir(join(world.stateDir, 'bakes'))
  expect(id).toBeDefined()
  gate.release()
  expect(await baking).toMatchObject({ status: 'baked' })
})

test('what --rebake replaced goes: marked by one pass, deleted by the next', async () => {
  const first = await bake('v2', 'two\n')
  const second = await bakeRelease({ ...ASK, release: 'v2', rebake: true }, world)
  const leftover = {
    kind: 'disk',
    id: expect.stringMatching(/^machines\/[0-9a-f]{16}\/disk-0\.qcow2$/),
    sizeBytes: expect.any(Number),
  }
  expect(await prune({ dryRun: true })).toMatchObject([{ ...leftover, did: 'marked' }])
  expect(await prune()).toMatchObject([{ ...leftover, did: 'marked' }])
  expect(existsSync(pathOf(first))).toBe(true)
  expect(await prune({ dryRun: true })).toMatchObject([{ did: 'deleted' }])
  expect(existsSync(pathOf(first))).toBe(true)
  expect(await prune()).toMatchObject([{ ...leftover, did: 'deleted' }])
  expect([existsSync(pathOf(first)), existsSync(pathOf(second))]).toEqual([false, true])
  expect(await prune()).toEqual([])
})

test('a mark is forgotten when its subject is needed again', async () => {
  await bake('v2', 'two\n')
  await bake('v3', 'three\n')
  expect(await prune({ keep: 1 })).toMatchObject([{ did: 'marked' }])
  expect(await prune()).toEqual([])
  expect(await prune({ keep: 1 })).toMatchObject([{ did: 'marked' }])
})

test('--keep N: older releases lose their disks and stay recorded; asked for, they are baked again', async () => {
  const [old, shared, young] = [await bake('v2', 'two\n'), await bake('v3', 'three\n'), await bake('v4', 'four\n')]
  await repo.git('tag', 'v5', 'v3')
  expect(await bakeRelease({ ...ASK, release: 'v5' }, world)).toMatchObject({ status: 'found' })
  await prune({ keep: 2 })
  expect(await prune({ keep: 2 })).toMatchObject([{ did: 'deleted', why: 'none of the newest 2 releases has it' }])
  expect([old, shared, young].map((one) => existsSync(pathOf(one)))).toEqual([false, true, true])
  expect(await findRelease('v2', world)).toMatchObject({ release: { name: 'v2' }, machines: [] })
  expect(await bakeRelease({ ...ASK, release: 'v2' }, world)).toMatchObject({ status: 'baked' })
})

test('directories that bake didn’t make, and those of bakes that have only begun, are nobody’s business', async () => {
  for (const name of ['mine', newBuildId()]) await mkdir(join(world.stateDir, 'bakes', name), { recursive: true })
  await mkdir(join(world.stateDir, 'bakes', newBuildId(Date.now() - 25 * 3600 * 1000)))
  expect(await prune()).toMatchObject([{ kind: 'bake directory', why: 'nothing tells whose it is' }])
})
