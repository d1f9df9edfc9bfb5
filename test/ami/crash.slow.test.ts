import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bakeRelease } from '../../src/ami/bake.ts'
import { prunePart } from '../../src/ami/prune.ts'
import { localPart } from '../../src/ami/prune-local.ts'
import { readClaims } from '../../src/jobs/claims.ts'
import { ASK, MACHINE_FILES, makeBakeWorld, type TestWorld } from '../support/bake-world.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeRepo } from '../support/repo.ts'

const CHILD = fileURLToPath(new URL('../support/bake-machine.ts', import.meta.url))
/** Every point between two steps of the story (src/ami/bake.ts and make.ts), in order, and what the next bake has to do then. */
const POINTS: [point: string, next: 'baked' | 'found'][] = [
  ['ami-claimed', 'baked'],
  ['ami-dir', 'baked'],
  ['ami-baked', 'baked'],
  ['ami-proven', 'baked'],
  ['ami-kept', 'baked'],
  ['ami-recorded', 'baked'],
  ['ami-published', 'found'],
  ['ami-release', 'found'],
  ['ami-linked', 'found'],
]

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())

async function killedAt(point: string, dir: string): Promise<void> {
  const env = { ...process.env, BAKE_FAILPOINT: `${point}:kill` }
  const child = spawn(process.execPath, [CHILD, dir, registry.host], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [, signal] = await once(child, 'close')
  expect(signal, stderr).toBe('SIGKILL')
  expect(stderr).toContain(`"failpoint":"${point}"`)
}

const prune = (world: TestWorld) => prunePart(localPart({ ...world, host: hostname() }), world.ledger, { dryRun: false })

test.each(POINTS)('killed at %s: what it left is pruned, and the next bake is %s', async (point, next) => {
  await using repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  await writeFile(join(repo.dir, 'base.raw'), 'a base')
  await killedAt(point, repo.dir)
  await using world = await makeBakeWorld({ dir: repo.dir, registry: registry.host })
  const left = async (dir: string) => readdir(join(repo.dir, '.bake', dir), { recursive: true }).catch(() => [])

  const marked = await prune(world)
  expect(marked.every(({ did }) => did === 'marked')).toBe(true)
  expect((await prune(world)).map(({ id, did }) => [id, did])).toEqual(marked.map(({ id }) => [id, 'deleted']))
  expect(await left('bakes')).toEqual([])
  if (next === 'baked') expect(await left('machines')).toEqual([])

  const made = await bakeRelease(ASK, world)
  expect(made.status).toBe(next)
  const claims = await readClaims(world.ledger, made.plan.inputs)
  expect(claims.entries.filter(({ state }) => state === 'published')).toHaveLength(1)
  expect(await left('bakes')).toEqual([])
  expect(await left('machines')).toHaveLength(2)
  expect(await prune(world)).toEqual([])
})
