import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Bake, bakeRelease } from '../../src/ami/bake.ts'
import { openBakeWorld } from '../../src/context/ami-world.ts'
import { openProject } from '../../src/context/project.ts'
import { stopHost } from '../../src/io/host/status.ts'
import { expectError } from '../support/bad-input.ts'
import { type BakeResult, runBake } from '../support/bake.ts'
import { ASK, MACHINE_FILES, makeBakeWorld } from '../support/bake-world.ts'
import { makeDisk } from '../support/disk-maker.ts'
import { startHookServer } from '../support/hook-server.ts'
import { startRegistry } from '../support/registry.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'

/** Baked with the command's own wiring, all but images, baker and prover, which take an engine and virtual machines. */
let repo: TestRepo
let made: Bake
beforeAll(async () => {
  repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  const root = { type: 0x83, active: true, startMib: 1, sizeMib: 400, fileSystem: 'ext4' } as const
  await makeDisk(join(repo.dir, 'base.raw'), { scheme: 'mbr', bootCode: true, partitions: [root] }, 512)
  await using registry = await startRegistry()
  const request = { emit: () => {}, settled: async () => {}, signal: new AbortController().signal }
  await using real = await openBakeWorld(await openProject(repo.dir), request)
  await using other = await makeBakeWorld({ dir: repo.dir, registry: registry.host })
  const { images, registry: client, baker, prover } = other
  made = await bakeRelease(ASK, { ...real, images, registry: client, baker, prover })
  // The same, and one more that there is no base for.
  const also = '  also: [{ base: { disk: second.raw } }]\n  services:'
  await repo.commit({ 'bake.yaml': String(MACHINE_FILES['bake.yaml']).replace('  services:', also) })
  await repo.git('tag', 'both')
  await bakeRelease({ ...ASK, release: 'both' }, { ...real, images, registry: client, baker, prover })
  await repo.commit({ 'bake.yaml': String(MACHINE_FILES['bake.yaml']) })
})
afterAll(async () => {
  await stopHost(join(repo.dir, '.bake'))
  await repo[Symbol.asyncDispose]()
})

const disk = () => join(repo.dir, '.bake/machines', made.plan.inputs.slice(0, 16), 'disk-0.qcow2')
const bake = (...args: string[]): Promise<BakeResult> => runBake(args, { cwd: repo.dir })

test('bake ami again: the same disk on stdout; no host process, no registry and no Packer is needed', async () => {
  const { code, stdout, stderr } = await bake('ami', '--release', 'v1')
  expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `${disk()}\n` })
  expect(stderr).toBe(`machine  ${disk()}  already baked · 2.2 kB\n`.replace('2.2 kB', stderr.match(/· (.*)\n/)?.[1] ?? ''))
  expect(existsSync(join(repo.dir, '.bake/host.json'))).toBe(false)
  const json = JSON.parse((await bake('ami', '--release', 'v1', '--json')).stdout)
  expect(json).toMatchObject({
    ...{ version: 1, release: 'v1', status: 'found', proven: true, inputs: made.plan.inputs, architecture: 'amd64' },
    ...{ image: { kind: 'disk', path: disk() }, images: [{ service: 'web', digest: made.plan.services[0]!.reference.digest }] },
  })
})

test('--dry-run says that there is nothing to do, or what there is', async () => {
  expect((await bake('ami', '--release', 'v1', '--dry-run')).stdout).toMatch(
    /^machine {2}nothing to do: it was baked and is there {2}\(inputs [0-9a-f]{12}\)\n$/,
  )
  expect((await bake('ami', '--release', 'v1', '--dry-run', '--rebake')).stdout).toMatch(
    /^machine {2}bake: it was asked for anew/,
  )
})

test('a name for the commit that was baked is found too, and recorded', async () => {
  const sha = made.plan.release.commit.slice(0, 9)
  const { stdout, stderr } = await bake('ami', '--release', 'final', '--sha', sha, '--dry-run')
  expect(stdout, stderr).toMatch(/web {2}build: nobody has published it\nmachine {2}build images, then bake/)
})

test('whoever finds a machine image that nobody was told of tells of it, once', async () => {
  await using server = await startHookServer()
  const env = { HOOK: `${server.url}/hook`, HOOK_SECRET: `whsec_${Buffer.alloc(32, 3).toString('base64')}` }
  const yaml = String(MACHINE_FILES['bake.yaml'])
  await writeFile(
    join(repo.dir, 'bake.yaml'),
    `${yaml}notify:\n  - { webhook_env: HOOK, secret_env: HOOK_SECRET, on: [baked] }\n  - { slack_env: HOOK, on: [deployed] }\n`,
  )
  for (let n = 0; n < 2; n++)
    expect(await runBake(['ami', '--release', 'v1'], { cwd: repo.dir, env })).toMatchObject({ code: 0, stdout: `${disk()}\n` })
  await writeFile(join(repo.dir, 'bake.yaml'), yaml)
  expect(server.calls).toHaveLength(1)
  expect(server.calls[0]!.headers['webhook-id']).toBe(`bake_${made.build}_baked`)
  expect(JSON.parse(server.calls[0]!.body)).toMatchObject({
    type: 'machine.baked',
    data: { release: 'v1', image: disk(), architecture: 'amd64', proven: true, services: [{ service: 'web' }] },
  })
})

test('when the second of two machine images fails, the first is on stdout all the same', async () => {
  const { code, stdout, stderr } = await bake('ami', '--release', 'both')
  expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: `${disk()}\n` })
  expect(stderr).toMatch(/second\.raw does not exist/)
  const json = JSON.parse((await bake('ami', '--release', 'both', '--json')).stdout)
  expect(json).toMatchObject({ release: 'both', status: 'found', image: { path: disk() }, error: { code: 'disk_missing' } })
})

test('bake render writes what was baked with', async () => {
  const { stdout, stderr, code } = await bake('render', '--release', 'v1', '--out', 'rendered')
  expect(code, stderr).toBe(0)
  const files = stdout.trimEnd().split('\n')
  expect(files).toContain(join(repo.dir, 'rendered/machine.pkr.hcl'))
  const unit = files.find((file) => file.endsWith('bake-web.service'))
  expect(await readFile(unit!, 'utf8')).toContain(made.plan.services[0]!.reference.digest)
  expect(await readdir(join(repo.dir, 'rendered'))).toContain('machine')
  expectError(await bake('render', '--release', 'v1', '--out', 'rendered'), { exit: 2, error: /is not empty/, next: /--out/ })
})

test.each<[string[], RegExp, RegExp]>([
  [['ami'], /no release was named/, /--release/],
  [['ami', '--release', 'v2'], /no tag "v2"/, /did you mean v1|git tag/],
  [['ami', '--release', 'v1', '--sha', 'zz'], /not a commit id/, /--branch or --tag/],
  [['render', '--release', 'a..b', '--out', 'x'], /no release name/, /git tag --list/],
])('bake %j: one clear error', async (args, error, next) => {
  expectError(await bake(...args), { exit: 2, error, next })
})

test('a base that isn’t there, or is no disk', async () => {
  await repo.commit({ 'bake.yaml': String(MACHINE_FILES['bake.yaml']).replace('base.raw', 'none.raw') })
  await repo.git('tag', 'v3')
  expectError(await bake('ami', '--release', 'v3'), { exit: 2, error: /none\.raw does not exist/, next: /bake base/ })
})
