import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Bake, bakeRelease } from '../../src/ami/bake.ts'
import { failed } from '../../src/errors.ts'
import { keys } from '../../src/names.ts'
import { expectError } from '../support/bad-input.ts'
import { type BakeResult, runBake, startBake } from '../support/bake.ts'
import { ASK, hold, MACHINE_FILES, makeBakeWorld, type TestWorld } from '../support/bake-world.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'

let registry: TestRegistry
let repo: TestRepo
let world: TestWorld
let made: Bake
beforeAll(async () => {
  registry = await startRegistry()
  repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  await writeFile(join(repo.dir, 'base.raw'), 'a base')
  world = await makeBakeWorld({ dir: repo.dir, registry: registry.host })
  made = await bakeRelease(ASK, world)
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await repo[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
})

const bake = (...args: string[]): Promise<BakeResult> => runBake(args, { cwd: repo.dir })
const file = () => `machines/${made.plan.inputs.slice(0, 16)}/disk-0.qcow2`

test('bake releases: a line each, newest first', async () => {
  const { stdout, stderr } = await bake('releases')
  const [title, line] = stdout.split('\n')
  expect(title, stderr).toMatch(/^RELEASE +COMMIT +IMAGES +MACHINE +PROVEN +BASE +CREATED$/)
  expect(line).toMatch(new RegExp(`^v1 +${made.plan.release.commit.slice(0, 10)} +1 +${file()} +.* +base\\.raw +`))
  const json = JSON.parse((await bake('releases', '--json')).stdout)
  expect(json).toMatchObject({
    version: 1,
    releases: [{ release: 'v1', machines: [{ there: true, proven: true, inputs: made.plan.inputs }] }],
  })
})

test('bake release: images by digest, the machine image, and what its proof showed', async () => {
  const { stdout, stderr } = await bake('release', 'v1')
  expect(stdout, stderr).toContain(`commit   ${made.plan.release.commit}`)
  expect(stdout).toContain(`image    web  ${registry.host}/shop/web@${made.plan.services[0]!.reference.digest}`)
  expect(stdout).toContain(join(repo.dir, '.bake', file()))
  expect(stdout).toMatch(/web +healthy +21\.5 s/)
  const json = JSON.parse((await bake('release', 'v1', '--json')).stdout)
  expect(json).toMatchObject({
    version: 1,
    release: 'v1',
    images: [{ image: 'web' }],
    machines: [{ image: { kind: 'disk' }, phases: expect.any(Array) }],
  })
})

test('a release that isn’t there is refused, with the one that was meant', async () => {
  expectError(await bake('release', 'v11'), {
    exit: 2,
    error: /no release v11 \(did you mean v1\?\)/,
    next: /bake ami --release v11/,
  })
})

test('bake logs shows a bake’s phases and lines, and its failure', async () => {
  const { stdout } = await bake('logs', made.build!)
  expect(stdout).toMatch(/^#1 install\n#1 \| installing 1 services\n#1 install … 0\.1 s\n#2 proof\n/)
  const lines = (await bake('logs', made.build!.slice(0, 9), '--json')).stdout.trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line))[0]).toMatchObject({ type: 'step', name: 'install' })
  world.proving = () => Promise.reject(failed('proof_failed', 'web never got healthy'))
  const error = await bakeRelease({ ...ASK, rebake: true }, world).catch((reason: unknown) => reason)
  world.proving = async () => {}
  const { build } = (error as { ids: { build: string } }).ids
  const { stdout: failure, code } = await bake('logs', build, '--follow')
  expect(failure).toMatch(/#2 proof … failed after .*\n(?:.*\n)*failed: web never got healthy\n$/)
  expect(code).toBe(3)
})

test('bake logs --follow goes on until the bake ends', async () => {
  const gate = hold()
  world.proving = gate.wait
  const baking = bakeRelease({ ...ASK, rebake: true }, world)
  await gate.entered()
  const [newest] = await world.ledger.list(keys.bakes, { limit: 1 })
  await using following = startBake(['logs', newest!.slice(keys.bakes.length), '--follow'], { cwd: repo.dir })
  await following.waitFor('stdout', /^#2 proof$/)
  gate.release()
  await baking
  world.proving = async () => {}
  const { code, stdout } = await following.wait()
  expect(code).toBe(0)
  expect(stdout).toMatch(/#3 keep … /)
})

test('bake prune tells what it marks and deletes', async () => {
  await bakeRelease({ ...ASK, rebake: true }, world)
  expect((await bake('prune', '--dry-run')).stdout).toMatch(/^would mark disk machines\/.*no published record names it$/m)
  expect((await bake('prune')).stdout).toMatch(/^marked disk /m)
  const { stdout } = await bake('prune', '--json')
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, dry_run: false, pruned: [{ kind: 'disk', did: 'deleted' }, {}] })
  const last = await bake('prune')
  expect([last.stdout, last.stderr]).toEqual(['', 'nothing to prune\n'])
})

test('bake ami --no-wait on one machine: waits, and says so', async () => {
  const { stderr } = await bake('ami', '--release', 'v1', '--no-wait')
  expect(stderr).toContain('--no-wait changes nothing: this process bakes')
})
