import { existsSync } from 'node:fs'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Bake, type BakeAsk, bakeRelease } from '../../src/ami/bake.ts'
import { findRelease, listReleases } from '../../src/ami/list.ts'
import { readBake } from '../../src/ami/records.ts'
import { failed } from '../../src/errors.ts'
import type { StoryEvent } from '../../src/events.ts'
import { readClaims } from '../../src/jobs/claims.ts'
import { readLog } from '../../src/jobs/logs.ts'
import { keys } from '../../src/names.ts'
import { ASK, hold, MACHINE_FILES, makeBakeWorld, type TestWorld, type TestWorldOptions } from '../support/bake-world.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeRepo, type RepoFiles, type TestRepo } from '../support/repo.ts'

let registry: TestRegistry
let repo: TestRepo
let world: TestWorld
let others: TestWorld[]
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())
beforeEach(async () => {
  repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  await writeFile(join(repo.dir, 'base.raw'), 'a base')
  others = []
  world = await another()
})
afterEach(async () => {
  for (const each of others) await each[Symbol.asyncDispose]()
  await repo[Symbol.asyncDispose]()
})

/** Another process of the same machine, as far as the ledger can tell. */
async function another(options: Partial<TestWorldOptions> = {}): Promise<TestWorld> {
  const made = await makeBakeWorld({ dir: repo.dir, registry: registry.host, ...options })
  others.push(made)
  return made
}

async function tagged(name: string, change: RepoFiles): Promise<void> {
  await repo.commit(change)
  await repo.git('tag', name)
}

const bake = (ask: Partial<BakeAsk> = {}, it = world): Promise<Bake> => bakeRelease({ ...ASK, ...ask }, it)
const pathOf = ({ machine: { baked } }: Bake): string => (baked.kind === 'disk' ? baked.path : '')
const statesOf = async ({ plan }: Bake) => (await readClaims(world.ledger, plan.inputs)).entries.map(({ state }) => state)
const there = async (dir: string): Promise<string[]> => readdir(join(repo.dir, '.bake', dir)).catch(() => [])
/** Beats are signs of life, and stay as workers' do. */
const written = async () => (await world.ledger.list('')).filter((key) => !key.startsWith('beats/'))

describe('a release', () => {
  test('is baked, proven and recorded, with all that was baked into it', async () => {
    const made = await bake()
    expect(made).toMatchObject({ status: 'baked', plan: { release: { name: 'v1' } } })
    const { document, n } = made.machine
    expect(n).toBe(0)
    expect(document).toMatchObject({
      release: 'v1',
      commit: made.plan.release.commit,
      architecture: 'amd64',
      services: [{ service: 'web', image: 'web', digest: made.plan.services[0]!.reference.digest }],
      image: { kind: 'disk', file: `machines/${made.plan.inputs.slice(0, 16)}/disk-0.qcow2` },
      proof: { boots: [{ network: 'none', services: [{ service: 'web', level: 'healthy', seconds: 21.5 }] }] },
      phases: [{ phase: 'install', seconds: 0.1 }, { phase: 'proof' }, { phase: 'keep' }],
    })
    expect(await readFile(pathOf(made), 'utf8')).toContain(made.plan.inputs)
    expect(world.baked[0]!.rendered.steps[0]!.text).toMatch(/^room \d+$/m)
    expect(await statesOf(made)).toEqual(['claimed', 'published'])
    expect(await there('bakes')).toEqual([])
    const listed = await findRelease('v1', world)
    expect(listed).toMatchObject({ release: { commit: made.plan.release.commit }, machines: [{ there: true }] })
    expect(await readBake(world.ledger, made.build!)).toMatchObject({
      status: 'baked',
      by: world.by,
      endedAt: expect.any(Number),
    })
  })

  test('keeps its log, as a build’s', async () => {
    const { build } = await bake()
    const events: StoryEvent[] = []
    for await (const event of readLog(world.ledger, keys.log(build!, 0))) events.push(event)
    expect(events).toMatchObject([
      { type: 'step', step: 0, name: 'install', state: 'started' },
      { type: 'line', step: 0, text: 'installing 1 services' },
      { type: 'step', step: 0, name: 'install', state: 'done', seconds: 0.1 },
      { type: 'step', step: 1, name: 'proof', state: 'started' },
      { type: 'step', step: 1, name: 'proof', state: 'done' },
      { type: 'step', step: 2, name: 'keep', state: 'started' },
      { type: 'step', step: 2, name: 'keep', state: 'done' },
    ])
  })

  test('asked for again is found: nothing is baked, and the registry isn’t asked', async () => {
    const first = await bake()
    await registry.clearRequests()
    const again = await bake({}, await another())
    expect(again).toMatchObject({ status: 'found', machine: first.machine })
    expect(world.baked).toHaveLength(1)
    expect(await registry.requests()).toEqual([])
    expect(await there('bakes')).toEqual([])
  })

  test('has a machine image for each base: the others of machine.also', async () => {
    const yaml = String(MACHINE_FILES['bake.yaml']).replace('  services:', '  also: [{ base: { disk: other.raw } }]\n  services:')
    await repo.commit({ 'bake.yaml': yaml })
    await repo.git('tag', 'both')
    await writeFile(join(repo.dir, 'other.raw'), 'another base')
    const first = await bake({ release: 'both' })
    const second = await bake({ release: 'both', variant: 1 })
    expect([first.status, second.status]).toEqual(['baked', 'baked'])
    expect(second.plan.definition).toMatchObject({ base: { disk: 'other.raw' }, also: [{}] })
    expect(second.plan.inputs).not.toBe(first.plan.inputs)
    const { machines } = await findRelease('both', world)
    expect(machines.map(({ inputs }) => inputs).sort()).toEqual([first.plan.inputs, second.plan.inputs].sort())
    expect((await bake({ release: 'both', variant: 1 }, await another())).status).toBe('found')
  })

  test('of another name and commit, with equal content, shares the machine', async () => {
    const first = await bake()
    await tagged('v2', { 'README.md': 'not part of any image' })
    const second = await bake({ release: 'v2' })
    expect(second).toMatchObject({ status: 'found', machine: first.machine })
    const { releases } = await listReleases(world)
    expect(releases.map(({ release, machines }) => [release.name, machines.length])).toEqual([
      ['v2', 1],
      ['v1', 1],
    ])
  })

  test('with other content is baked too', async () => {
    const first = await bake()
    await tagged('v2', { 'web/content': 'two\n' })
    const second = await bake({ release: 'v2' })
    expect(second.status).toBe('baked')
    expect(second.plan.inputs).not.toBe(first.plan.inputs)
    expect(existsSync(pathOf(first))).toBe(true)
  })

  test('is baked anew on another base, and is the same release', async () => {
    const first = await bake()
    await writeFile(join(repo.dir, 'base.raw'), 'another base')
    const second = await bake()
    expect(second).toMatchObject({ status: 'baked', plan: { release: first.plan.release } })
    expect((await findRelease('v1', world)).machines).toHaveLength(2)
  })

  test('whose disk was deleted is baked again', async () => {
    const first = await bake()
    await rm(pathOf(first))
    const second = await bake()
    expect(second.status).toBe('baked')
    expect(await statesOf(second)).toEqual(['claimed', 'published', 'withdrawn', 'claimed', 'published'])
  })

  test('with --rebake is baked anew, beside what others may still run from', async () => {
    const first = await bake()
    const second = await bake({ rebake: true })
    expect(second.status).toBe('baked')
    expect(pathOf(second)).not.toBe(pathOf(first))
    expect(await statesOf(second)).toEqual(['claimed', 'published', 'withdrawn', 'claimed', 'published'])
    expect(await bake()).toMatchObject({ status: 'found', machine: second.machine })
  })

  test('with --no-verify isn’t proven; asked for without, it is proven and not baked again', async () => {
    const first = await bake({ verify: false })
    expect(first.machine.document.proof).toBeUndefined()
    expect(await bake({ verify: false })).toMatchObject({ status: 'found' })
    expect(world.proven).toHaveLength(0)
    const second = await bake()
    expect(second).toMatchObject({ status: 'proven', machine: { document: { proof: {} } } })
    expect(pathOf(second)).toBe(pathOf(first))
    expect(world.baked).toHaveLength(1)
    expect(await bake()).toMatchObject({ status: 'found' })
  })

  test('keeps the base that it was baked upon, and only when it was', async () => {
    let kept = 0
    world.keepBase = async () => void kept++
    world.before = () => Promise.reject(failed('bake_failed', 'exit code 7'))
    await expect(bake()).rejects.toMatchObject({ code: 'bake_failed' })
    expect(kept).toBe(0)
    world.before = async () => {}
    await bake()
    expect(kept).toBe(1)
  })

  test('is proven again when what the proof has to show is another', async () => {
    await bake()
    const text = String(MACHINE_FILES['bake.yaml'])
    await tagged('v2', { 'bake.yaml': text.replace('image: web,', 'image: web, proof: { level: started },') })
    const second = await bake({ release: 'v2' })
    expect(second.status).toBe('proven')
    expect([world.baked.length, world.proven.length]).toEqual([1, 2])
  })
})

describe('two at once', () => {
  test('of the same inputs: one bakes, the other waits, says for whom, and shows its phases', async () => {
    const gate = hold()
    world.before = gate.wait
    const other = await another()
    const first = bake()
    await gate.entered()
    const second = bake({}, other)
    await expect.poll(() => other.told.some((event) => event.type === 'note' && event.text.includes(world.by))).toBe(true)
    await expect.poll(() => other.told.some((event) => event.type === 'phase' && event.phase === 'install')).toBe(true)
    gate.release()
    const [made, found] = await Promise.all([first, second])
    expect([made.status, found.status]).toEqual(['baked', 'found'])
    expect(found.machine).toEqual(made.machine)
    expect([world.baked.length, other.baked.length]).toEqual([1, 0])
    expect(await statesOf(made)).toEqual(['claimed', 'published'])
  })

  test('of different inputs: both bake, at the same time', async () => {
    await tagged('v2', { 'web/content': 'two\n' })
    const [one, two] = [hold(), hold()]
    const other = await another()
    world.before = one.wait
    other.before = two.wait
    const both = Promise.all([bake(), bake({ release: 'v2' }, other)])
    await Promise.all([one.entered(), two.entered()])
    one.release()
    two.release()
    const [first, second] = await both
    expect([first.status, second.status]).toEqual(['baked', 'baked'])
    expect(pathOf(first)).not.toBe(pathOf(second))
  })

  test('who waited for a bake that failed fails the same way, and bakes nothing', async () => {
    const gate = hold()
    world.before = async () => {
      await gate.wait()
      throw failed('bake_failed', 'the disk is full')
    }
    const other = await another()
    const first = bake()
    await gate.entered()
    const second = bake({}, other)
    await expect.poll(() => other.told.some((event) => event.type === 'note')).toBe(true)
    gate.release()
    const results = await Promise.allSettled([first, second])
    for (const result of results)
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { code: 'bake_failed', exit: 3, message: expect.stringContaining('the disk is full') },
      })
    expect(other.baked).toHaveLength(0)
  })

  test('who waited for a bake that was stopped bakes itself', async () => {
    const stop = new AbortController()
    const stopped = await another({ signal: stop.signal })
    const gate = hold()
    stopped.before = gate.wait
    const first = bake({}, stopped)
    await gate.entered()
    const second = bake()
    await expect.poll(() => world.told.some((event) => event.type === 'note')).toBe(true)
    stop.abort(new Error('Ctrl-C'))
    gate.release()
    await expect(first).rejects.toThrow('Ctrl-C')
    const made = await second
    expect(made.status).toBe('baked')
    expect(await statesOf(made)).toEqual(['claimed', 'failed', 'claimed', 'published'])
  })

  test('who lost the claim while paused takes what the other made, and leaves nothing', async () => {
    const paused = await another()
    const gate = hold()
    paused.proving = gate.wait
    const first = bake({}, paused)
    await gate.entered()
    // To everybody else its process has ended.
    world.ended = () => true
    const made = await bake()
    gate.release()
    expect(await first).toMatchObject({ status: 'found', machine: made.machine })
    expect(await there(`machines/${made.plan.inputs.slice(0, 16)}`)).toEqual(['disk-1.qcow2'])
    expect(await there('bakes')).toEqual([])
  })
})

describe('a bake that fails', () => {
  test.each<[string, () => void]>([
    ['in the baker', () => (world.before = () => Promise.reject(failed('bake_failed', 'exit code 7')))],
    ['in the proof', () => (world.proving = () => Promise.reject(failed('bake_failed', 'exit code 7')))],
  ])('%s leaves nothing but its record and its log', async (_, breaks) => {
    breaks()
    const error = await bake().catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'bake_failed',
      exit: 3,
      message: 'exit code 7',
      ids: { release: 'v1', build: expect.any(String) },
    })
    const { build } = (error as { ids: { build: string } }).ids
    expect((error as { next: string }).next).toContain(`bake logs ${build}`)
    expect(await there('bakes')).toEqual([])
    expect((await there('machines')).flat()).toEqual([])
    expect(await readBake(world.ledger, build)).toMatchObject({ status: 'failed', failure: { code: 'bake_failed' } })
    expect((await listReleases(world)).releases).toEqual([])
    world.before = async () => {}
    world.proving = async () => {}
    expect(await bake()).toMatchObject({ status: 'baked' })
  })

  test('leaves its tag free to move; one that was baked stays what it was', async () => {
    world.before = () => Promise.reject(failed('bake_failed', 'exit code 7'))
    await expect(bake()).rejects.toMatchObject({ code: 'bake_failed' })
    world.before = async () => {}
    const fixed = await repo.commit({ 'web/content': 'two\n' })
    await repo.git('tag', '-f', 'v1')
    expect(await bake()).toMatchObject({ status: 'baked', plan: { release: { commit: fixed } } })
    await repo.commit({ 'web/content': 'three\n' })
    await repo.git('tag', '-f', 'v1')
    await expect(bake()).rejects.toMatchObject({ code: 'release_moved', exit: 2, message: expect.stringContaining(fixed) })
  })

  test('with --keep-failed leaves what it made', async () => {
    world.proving = () => Promise.reject(failed('proof_failed', 'web never got healthy'))
    await expect(bake({ keepFailed: true })).rejects.toMatchObject({
      code: 'proof_failed',
      next: expect.stringContaining('bake prune'),
    })
    const [build] = await there('bakes')
    expect(await there(`bakes/${build}/bake`)).toEqual(['disk.qcow2'])
    world.proving = async () => {}
    expect(await bake({ keepFailed: true })).toMatchObject({ status: 'baked' })
    expect(await there('bakes')).toEqual([build])
  })

  test('stopped by its person leaves nothing, and isn’t held against the inputs', async () => {
    const stop = new AbortController()
    const it = await another({ signal: stop.signal })
    it.before = async () => stop.abort(new Error('Ctrl-C'))
    await expect(bake({}, it)).rejects.toThrow('Ctrl-C')
    expect(await there('bakes')).toEqual([])
    const [id] = await world.ledger.list(keys.bakes)
    expect(await world.ledger.get(id!)).toMatchObject({ status: 'cancelled' })
    expect(await bake()).toMatchObject({ status: 'baked' })
  })
})

describe('bad input is one clear error, and nothing is created', () => {
  const yaml = String(MACHINE_FILES['bake.yaml'])
  test.each<[string, RepoFiles, object]>([
    ['no machine', { 'bake.yaml': yaml.replace(/machine:.*/s, '') }, { code: 'machine_missing', exit: 2 }],
    ['no bake.yaml', { 'bake.yaml': null }, { code: 'config_missing', exit: 2 }],
    [
      'an unknown image',
      { 'bake.yaml': yaml.replace('image: web', 'image: wbe') },
      { code: 'config_invalid', exit: 2, message: /did you mean web/ },
    ],
    [
      'a setup script that isn’t there',
      { 'bake.yaml': yaml.replace('machine:', 'machine:\n  setup: [tune.sh]') },
      { code: 'setup_missing', message: /tune\.sh/ },
    ],
    [
      'a setup script that is no text',
      { 'bake.yaml': yaml.replace('machine:', 'machine:\n  setup: [tune.sh]'), 'tune.sh': new Uint8Array([0xff, 0xfe]) },
      { code: 'not_text' },
    ],
    [
      'templates that aren’t there',
      { 'bake.yaml': yaml.replace('machine:', 'machine:\n  templates: own') },
      { code: 'templates_missing' },
    ],
    [
      'an image declared for another processor',
      { 'bake.yaml': yaml.replace('context: web', 'context: web, platforms: [linux/arm64]') },
      { code: 'image_platform', exit: 2, message: /linux\/arm64.*linux\/amd64/ },
    ],
    [
      'an image that is of another processor',
      { 'web/platform': 'linux/arm64,linux/s390x' },
      { code: 'image_platform', exit: 2, message: /linux\/arm64, linux\/s390x/ },
    ],
    [
      'an image that doesn’t build',
      { 'web/content': null },
      { code: 'build_failed', exit: 3, message: /image web: COPY content/ },
    ],
  ])('%s', async (_, change, wanted) => {
    await tagged('bad', change)
    const error = await bake({ release: 'bad' }).catch((reason: unknown) => reason)
    const { message, ...rest } = wanted as { message?: RegExp }
    expect(error).toMatchObject({ ...rest, next: expect.any(String) })
    if (message) expect((error as Error).message).toMatch(message)
    expect(await written()).toEqual([])
    expect(await there('bakes')).toEqual([])
  })

  test('a disk too small for the images, with the size that would do', async () => {
    const { base } = world
    world.base = async (definition) => ({ ...(await base(definition)), virtualBytes: 2 * 1024 ** 3, freeBytes: 1e8 })
    await expect(bake()).rejects.toMatchObject({
      code: 'disk_too_small',
      exit: 2,
      next: expect.stringMatching(/a disk of 3 GB would do/),
    })
    expect(await written()).toEqual([])
  })

  test('what the baker refuses', async () => {
    const baker = await world.baker({} as never)
    world.baker = async () => ({ ...baker, prevalidate: () => Promise.reject(failed('packer_missing', 'no Packer')) })
    await expect(bake()).rejects.toMatchObject({ code: 'packer_missing' })
    expect(await written()).toEqual([])
  })

  test('what the baker may not do which another one fell back to', async () => {
    const baker = await world.baker({} as never)
    let name: 'direct' | 'packer' = 'direct'
    world.baker = async () => ({
      ...baker,
      get name() {
        return name
      },
      async prevalidate() {
        name = 'packer'
      },
    })
    world.check = async (_, who) => {
      if (who === 'packer') throw failed('ec2_denied', 'ec2:RunInstances')
    }
    await expect(bake()).rejects.toMatchObject({ code: 'ec2_denied' })
    expect(await written()).toEqual([])
  })

  test('a baker that isn’t there is told before images are built', async () => {
    const baker = await world.baker({} as never)
    world.baker = async () => ({ ...baker, available: () => Promise.reject(failed('packer_missing', 'no Packer')) })
    await registry.clearRequests()
    await expect(bake()).rejects.toMatchObject({ code: 'packer_missing' })
    expect(await registry.requests()).toEqual([])
  })

  test('a release whose image the registry lost', async () => {
    const first = await bake()
    await registry.deleteManifest('shop/web', first.plan.services[0]!.reference.digest)
    await expect(bake({ rebake: true })).rejects.toMatchObject({ code: 'image_gone', exit: 4 })
    expect(await bake()).toMatchObject({ status: 'found' })
  })
})
