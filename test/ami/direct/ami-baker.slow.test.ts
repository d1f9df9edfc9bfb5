import { execFile, execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { globSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, open, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import {
  DeleteSnapshotCommand,
  DeregisterImageCommand,
  DescribeImagesCommand,
  DescribeSnapshotsCommand,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type DirectAmiWorld, directAmiBaker } from '../../../src/ami/direct/ami-baker.ts'
import { baseSnapshot } from '../../../src/ami/direct/base-snapshots.ts'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { hashReader } from '../../../src/ami/direct/hashes.ts'
import { parentSnapshots } from '../../../src/ami/direct/kept.ts'
import type { Head } from '../../../src/ami/direct/lineage.ts'
import type { Baked, BakeRun, Baker, MachinePlan } from '../../../src/ami/machine.ts'
import type { ChangeEnd } from '../../../src/io/change-disk.ts'
import { copyDisk } from '../../../src/io/copy-disk.ts'
import { openLayers } from '../../../src/io/disk-layers.ts'
import { Ec2 } from '../../../src/io/ec2.ts'
import { Ec2Images } from '../../../src/io/ec2-images.ts'
import { DirectoryLedger } from '../../../src/io/ledger-directory.ts'
import { createOverlay, rebaseOverlay } from '../../../src/io/qemu-img.ts'
import { newBuildId } from '../../../src/names.ts'
import { amiPlan } from '../../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../../support/ec2.ts'
import { MOTO_REGION as EAST } from '../../support/moto.ts'
import { type TestRegions, testRegions } from './aws.ts'
import { differences, openDiskFile } from './disk-file.ts'

/** All of it but what runs on the disk: blocks are written into the overlay in its place. */

const WEST = 'eu-west-1'
const GIB = 2 ** 30
let world: TestEc2
let regions: TestRegions
let dir: string
let ledger: DirectoryLedger
let base: { id: string; snapshot: string }
/** What the next bake writes: index → byte. */
let writes: Map<number, number>
let proofs: { path: string; images: number }[]

beforeAll(async () => {
  world = await startEc2()
  regions = testRegions()
}, 180_000)
afterAll(async () => {
  await regions?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})
beforeEach(async () => {
  world.ebs.fault = () => undefined
  world.ebs.denied.clear()
  world.gaps.denied.clear()
  world.gaps.store.encryptedByDefault.clear()
  world.gaps.changes.length = 0
  regions.told.length = 0
  proofs = []
  dir = await mkdtemp(join(tmpdir(), 'bake-ami-baker-'))
  ledger = new DirectoryLedger(join(dir, 'ledger'))
  base = await makeBase()
  return () => rm(dir, { recursive: true })
})

const BASE_BLOCKS = [0, 1, 30, 2047]
async function makeBase(more: { encrypted?: boolean; ownerId?: string } = {}) {
  const made = await world.makeImage()
  const blocks = new Map(BASE_BLOCKS.map((index) => [index, Buffer.alloc(BLOCK_BYTES, randomInt(1, 256))]))
  await world.gaps.store.fill(EAST, made.snapshot, { volumeGib: 1, blocks, ...more })
  return made
}

const imagesOf = new Map<string, Ec2Images>()
const images = (region: string) => {
  const found = imagesOf.get(region) ?? new Ec2Images(new Ec2(region), { pollMs: 5 })
  imagesOf.set(region, found)
  return found
}
async function write({ dir }: { dir: string }, blocks: Map<number, number>): Promise<ChangeEnd> {
  const commands = [...blocks].flatMap(([index, byte]) => ['-c', `write -P ${byte} ${index * BLOCK_BYTES} ${BLOCK_BYTES}`])
  if (commands.length > 0) await promisify(execFile)('qemu-io', ['-f', 'qcow2', ...commands, join(dir, 'disk.qcow2')])
  return { kind: 'done' }
}
const packer: Baker = {
  name: 'packer',
  prevalidate: async () => {},
  bake: async () => ({ kind: 'ami', region: EAST, id: 'ami-packer', snapshots: [] }),
}
const baker = (more: Partial<DirectAmiWorld> = {}) =>
  directAmiBaker({
    ...{ stateDir: dir, ledger, version: '1', by: 'worker-1', pace: regions.world().pace, packer: async () => packer },
    ...{ images, snapshots: regions.snapshots, ebs: regions.ebs, rebase: rebaseOverlay, layers: openLayers },
    means: async () => ({ platform: 'linux', architecture: 'amd64', helper: 'root', missing: [] }),
    fileSystems: async () => [{ type: 'ext4', offset: 0, length: GIB }],
    overlay: (path, backing, signal) => createOverlay(path, backing, { tracked: true, signal }),
    change: (change) => write(change, writes),
    async copyDisk(from, to, signal) {
      const reader = hashReader()
      await copyDisk(from, to, { size: BLOCK_BYTES, onPiece: reader.take, signal })
      return reader.end((await stat(to)).size)
    },
    login: async () => undefined,
    explain: false,
    ...more,
  })
const planOf = (more: Parameters<typeof amiPlan>[0] = {}): MachinePlan =>
  amiPlan({ base: { id: base.id, virtualBytes: GIB }, ...more })
type Prove = NonNullable<BakeRun['prove']>
async function runOf(prove?: Prove, signal = new AbortController().signal): Promise<BakeRun> {
  const id = newBuildId()
  const path = join(dir, 'bakes', id, 'bake')
  await mkdir(path, { recursive: true })
  return { id, dir: path, signal, tell: (event) => void regions.told.push(event), ...(prove && { prove }) }
}
const proving: Prove = async ({ path }) => {
  proofs.push({ path, images: world.gaps.changes.filter(({ action }) => action === 'RegisterImage').length })
  await stat(path)
  return true
}
type BakedAmi = Extract<Baked, { kind: 'ami' }>
async function bake(blocks: Record<number, number>, plan = planOf(), { by = baker(), prove = proving as Prove | null } = {}) {
  writes = new Map(Object.entries(blocks).map(([index, byte]) => [Number(index), byte]))
  const run = await runOf(prove ?? undefined)
  const baked = (await by.bake(plan, run)) as BakedAmi
  await by.published?.(baked, run)
  return { run, baked, by }
}
/** Blocks in which the volume of an image isn't base and writes. */
async function wrong(
  { region, snapshots }: { region: string; snapshots: string[] },
  written: Record<number, number>,
  baseOf = base,
) {
  await using disk = await openDiskFile(GIB)
  const { store } = world.gaps
  for (const [index, hash] of store.get(EAST, baseOf.snapshot)!.blocks) await disk.write(index, await store.read(hash))
  for (const [index, byte] of Object.entries(written)) await disk.write(Number(index), Buffer.alloc(BLOCK_BYTES, byte))
  return await differences(store, { region, id: snapshots[0]! }, disk)
}
const written = (region: string, id: string) => [...world.gaps.store.get(region, id)!.written.keys()].sort((a, b) => a - b)
const snapshotsOf = async (run: BakeRun) => {
  const Filters = [{ Name: 'tag:bake:run', Values: [run.id] }]
  const found = await Promise.all(
    [EAST, WEST].map((region) => world.client(region).send(new DescribeSnapshotsCommand({ Filters }))),
  )
  return found.flatMap(({ Snapshots = [] }) => Snapshots)
}
const told = () => regions.told.flatMap((event) => (event.type === 'note' ? [event.text] : []))

describe('a bake', () => {
  test('puts what changed upon the base, proves the same disk meanwhile, and registers after both', async () => {
    const { baked, run, by } = await bake({ 1: 7, 5: 9 })
    expect(by.name).toBe('direct')
    expect(written(EAST, baked.snapshots[0]!)).toEqual([1, 5])
    expect(await wrong(baked, { 1: 7, 5: 9 })).toEqual([])
    expect(proofs).toEqual([{ path: join(run.dir, 'disk.qcow2'), images: 0 }])
    const image = (await images(EAST).get(baked.id))!
    const of = (await images(EAST).get(base.id))!
    expect(image).toMatchObject({
      architecture: of.architecture,
      rootDevice: of.rootDevice,
      imdsV2: true,
      rootBytes: of.rootBytes,
    })
    expect(image.tags).toMatchObject({
      'bake:run': run.id,
      'bake:project': 'shop',
      'bake:inputs': planOf().inputs,
      'bake:proven': 'true',
    })
    expect((await snapshotsOf(run))[0]!.Tags).toContainEqual({ Key: 'bake:proven', Value: 'true' })
  })

  test('without a proof is tagged so', async () => {
    const { baked } = await bake({ 1: 7 }, planOf(), { prove: null })
    expect((await images(EAST).get(baked.id))!.tags).toMatchObject({ 'bake:proven': 'false' })
  })

  test('after another puts only what changed since, upon that one’s snapshots, in each region', async () => {
    const plan = planOf({ ami: { regions: [EAST, WEST] } })
    const first = await bake({ 1: 7, 5: 9 }, plan)
    const second = await bake({ 5: 0, 6: 3 }, plan)
    const third = await bake({ 6: 3, 8: 4 }, plan)
    const all = { 1: 7, 5: 0, 6: 3, 8: 4 }
    for (const [at, each] of [third.baked, ...third.baked.copies!].entries()) {
      const [of, copies] = [second.baked, second.baked.copies!]
      expect(world.gaps.store.get(each.region, each.snapshots[0]!)!.parent).toBe([of, ...copies][at]!.snapshots[0])
      expect(written(each.region, each.snapshots[0]!)).toEqual([8])
      expect(await wrong(each, all)).toEqual([])
    }
    expect(first.baked.copies).toMatchObject([{ region: WEST }])
    expect((await images(WEST).get(third.baked.copies![0]!.id))!.tags).toMatchObject({
      'bake:copy-of': third.baked.id,
      'bake:proven': 'true',
    })
    // The base, once; images never.
    const copied = world.gaps.changes.filter(({ action }) => action === 'CopyImage')
    expect(copied.map(({ form }) => form.get('SourceImageId'))).toEqual([base.id])
    expect(await parentSnapshots(ledger, Date.now())).toEqual(
      new Set([third.baked, ...third.baked.copies!].map(({ snapshots }) => snapshots[0])),
    )
  })

  test('begins with the base when the last snapshot is gone, and says so', async () => {
    const first = await bake({ 1: 7 })
    await world.client().send(new DeregisterImageCommand({ ImageId: first.baked.id }))
    await world.client().send(new DeleteSnapshotCommand({ SnapshotId: first.baked.snapshots[0]! }))
    const { baked } = await bake({ 2: 8 })
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(await wrong(baked, { 2: 8 })).toEqual([])
    expect(told()).toContainEqual(expect.stringMatching(/the snapshot of the last disk, is gone: this bake begins with the base/))
  })

  test('begins with the base when the last snapshot holds another disk', async () => {
    const first = await bake({ 1: 7 })
    await images(EAST).tag(first.baked.snapshots, { 'bake:disk': 'another' })
    const { baked } = await bake({ 2: 8 })
    expect(await wrong(baked, { 2: 8 })).toEqual([])
    expect(told()).toContainEqual(expect.stringContaining('holds another disk'))
  })

  test('begins with the base, everywhere, when one of them is deleted in the middle', async () => {
    const plan = planOf({ ami: { regions: [EAST, WEST] } })
    await bake({ 1: 7 }, plan)
    let starts = 0
    world.ebs.fault = ({ action, region }) =>
      action === 'StartSnapshot' && region === WEST && starts++ === 0 ? 'ResourceNotFoundException' : undefined
    const { baked, run } = await bake({ 2: 8 }, plan)
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    for (const each of [baked, ...baked.copies!]) expect(await wrong(each, { 2: 8 })).toEqual([])
    expect(await snapshotsOf(run)).toHaveLength(2)
  })
})

describe('a worker that has no disk of the lineage', () => {
  const other = (more: Partial<DirectAmiWorld> = {}) => baker({ stateDir: join(dir, 'other'), by: 'worker-2', ...more })
  /** Calls of EBS: what each snapshot was asked for. */
  let calls: Map<string, number>
  const called = (action: string, snapshot: string) => calls.get(`${action} ${snapshot}`) ?? 0
  beforeEach(() => {
    calls = new Map()
    world.ebs.fault = ({ action, snapshot }) => {
      calls.set(`${action} ${snapshot}`, (calls.get(`${action} ${snapshot}`) ?? 0) + 1)
      return undefined
    }
  })
  /** Blocks in which what that worker keeps isn't what EBS has. */
  const keptWrong = async (snapshot: string) => {
    const [path] = globSync(join(dir, 'other/lineages/*/*.json'))
    const head = JSON.parse(await readFile(path!, 'utf8')) as { file: string; generation: number }
    await using layer = await openLayers(join(dir, 'other', head.file), 'qcow2')
    const read = (index: number) => layer.read(index * BLOCK_BYTES, BLOCK_BYTES)
    const found = await differences(world.gaps.store, { region: EAST, id: snapshot }, { bytes: layer.bytes, read })
    return { found, generation: head.generation }
  }
  const bringBase = async () => {
    const [from] = globSync(join(dir, 'lineages/*'))
    const to = from!.replace(dir, join(dir, 'other'))
    await mkdir(to, { recursive: true })
    for (const name of ['base.raw', 'base.raw.sha256']) await copyFile(join(from!, name), join(to, name))
    return join(to, 'base.raw')
  }

  test('goes on with the last one of another worker, by its snapshot’s blocks, without the base', async () => {
    const plan = planOf({ ami: { regions: [EAST, WEST] } })
    const first = await bake({ 1: 7, 5: 9 }, plan)
    calls.clear()
    const { baked } = await bake({ 5: 0, 6: 3 }, plan, { by: other() })
    for (const [at, each] of [baked, ...baked.copies!].entries()) {
      const snapshot = each.snapshots[0]!
      expect(world.gaps.store.get(each.region, snapshot)!.parent).toBe([first.baked, ...first.baked.copies!][at]!.snapshots[0])
      expect(written(each.region, snapshot)).toEqual([5, 6])
      expect(await wrong(each, { 1: 7, 5: 0, 6: 3 })).toEqual([])
    }
    expect(await keptWrong(baked.snapshots[0]!)).toEqual({ found: [], generation: 2 })
    expect(told()).toContainEqual('the disk of release v2, by worker-1, is fetched: all its blocks')
    expect(called('ListSnapshotBlocks', base.snapshot)).toBe(0)
    const kept = [first.baked, ...first.baked.copies!, baked, ...baked.copies!].map(({ snapshots }) => snapshots[0])
    expect(await parentSnapshots(ledger, Date.now())).toEqual(new Set(kept))
    // From then on by itself.
    calls.clear()
    const { baked: third } = await bake({ 8: 4 }, plan, { by: other() })
    expect(written(EAST, third.snapshots[0]!)).toEqual([8])
    expect(called('GetSnapshotBlock', baked.snapshots[0]!)).toBe(0)
  })

  test('but has the base, asks for what differs from it', async () => {
    const { baked: first } = await bake({ 1: 7, 5: 9, 2047: 0 })
    await bringBase()
    calls.clear()
    const { baked } = await bake({ 6: 3 }, planOf(), { by: other() })
    expect(written(EAST, baked.snapshots[0]!)).toEqual([6])
    expect(await wrong(baked, { 1: 7, 5: 9, 6: 3, 2047: 0 })).toEqual([])
    expect(await keptWrong(baked.snapshots[0]!)).toEqual({ found: [], generation: 2 })
    expect(called('GetSnapshotBlock', first.snapshots[0]!)).toBe(3)
  })

  test.for<[string, () => Promise<void> | void]>([
    ['may not ask what changed', () => void world.ebs.denied.add('ListChangedBlocks')],
    [
      'a damaged copy of the base',
      async () => {
        await using file = await open(globSync(join(dir, 'other/lineages/*/base.raw'))[0]!, 'r+')
        await file.write(Buffer.alloc(BLOCK_BYTES, 0xee), 0, BLOCK_BYTES, 30 * BLOCK_BYTES)
      },
    ],
  ])('and %s, asks for all blocks', async ([, prepare]) => {
    await bake({ 1: 7 })
    await bringBase()
    await prepare()
    const { baked } = await bake({ 6: 3 }, planOf(), { by: other() })
    expect(await wrong(baked, { 1: 7, 6: 3 })).toEqual([])
    expect(told()).toContainEqual(expect.stringContaining('is fetched: all its blocks'))
  })

  test.for<[string, string, (first: BakedAmi) => Promise<unknown>]>([
    [
      'is gone',
      'is gone',
      async ({ id, snapshots }) => {
        await world.client().send(new DeregisterImageCommand({ ImageId: id }))
        await world.client().send(new DeleteSnapshotCommand({ SnapshotId: snapshots[0]! }))
      },
    ],
    [
      'is tagged as another disk',
      'holds another disk',
      ({ snapshots }) => images(EAST).tag(snapshots, { 'bake:disk': 'another' }),
    ],
    ['is another project’s', 'holds another disk', ({ snapshots }) => images(EAST).tag(snapshots, { 'bake:project': 'theirs' })],
    [
      'has other blocks',
      "isn't that disk",
      async ({ snapshots }) => void world.gaps.store.get(EAST, snapshots[0]!)!.blocks.delete(1),
    ],
  ])('begins with the base when the other’s snapshot %s, and says so', async ([, what, sabotage]) => {
    const first = await bake({ 1: 7 })
    await sabotage(first.baked)
    const { baked } = await bake({ 2: 8 }, planOf(), { by: other() })
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(await wrong(baked, { 2: 8 })).toEqual([])
    expect(told()).toContainEqual(expect.stringMatching(new RegExp(`can't be fetched: .*${what}.*begins with the base`)))
    expect(globSync(join(dir, 'other/lineages/*/*.tmp'))).toEqual([])
  })

  test('and whose fetched one is damaged brings the base after all', async () => {
    await bake({ 1: 7 })
    world.gaps.denied.add('RegisterImage')
    await expect(bake({ 2: 8 }, planOf(), { by: other() })).rejects.toMatchObject({ code: 'ec2_denied' })
    world.gaps.denied.clear()
    const flat = globSync(join(dir, 'other/lineages/*/*.raw'))
    expect(flat).toHaveLength(1)
    await using file = await open(flat[0]!, 'r+')
    await file.write(Buffer.alloc(BLOCK_BYTES, 0xee), 0, BLOCK_BYTES, 2 * BLOCK_BYTES)
    // Steps that run again log in again.
    const login = async () => ({ dir, secrets: [], [Symbol.asyncDispose]: async () => {} })
    const { baked } = await bake({ 2: 8 }, planOf(), { by: other({ login }) })
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(await wrong(baked, { 2: 8 })).toEqual([])
    expect(told()).toContainEqual(expect.stringContaining("the disk of release v2 is thrown away: block 2 isn't what"))
  })

  test('has nothing of another version of bake', async () => {
    await bake({ 1: 7 })
    const { baked } = await bake({ 2: 8 }, planOf(), { by: other({ version: '2' }) })
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(told().filter((text) => text.includes('fetched'))).toEqual([])
  })

  test('names what it fetched in the ledger, whatever becomes of its bake and of the other worker', async () => {
    const first = await bake({ 1: 7 })
    world.gaps.denied.add('RegisterImage')
    await expect(bake({ 2: 8 }, planOf(), { by: other() })).rejects.toMatchObject({ code: 'ec2_denied' })
    world.gaps.denied.clear()
    const second = await bake({ 3: 3 })
    const both = [first, second].map(({ baked }) => baked.snapshots[0])
    expect(await parentSnapshots(ledger, Date.now())).toEqual(new Set(both))
  })
})

describe('a worker', () => {
  test('that bakes two at once makes both right, and the next one is too', async () => {
    // Neither finds the base here, nor a last disk.
    for (const round of [1, 2]) {
      const two = [{ [round]: 10 }, { 1: 20, [4 + round]: 30 }]
      const meeting = meet(two.length)
      const bakes = await Promise.all(two.map((blocks) => bakeAlone(blocks, meeting)))
      const all = round === 1 ? {} : lastWrites
      for (const [at, baked] of bakes.entries()) expect(await wrong(baked, { ...all, ...two[at] })).toEqual([])
      lastWrites = await whatIsLast(
        bakes,
        two.map((blocks) => ({ ...all, ...blocks })),
      )
    }
    const { baked } = await bake({ 8: 9 })
    expect(await wrong(baked, { ...lastWrites, 8: 9 })).toEqual([])
  })

  test('whose last disk can’t be changed for once begins with the base, and keeps it if that can’t either', async () => {
    const first = await bake({ 1: 7 })
    const never = baker({ change: async () => ({ kind: 'unfit', reason: 'no loop device is free' }) })
    expect((await bake({}, planOf(), { by: never })).baked.id).toBe('ami-packer')
    expect(told()).toContainEqual(expect.stringMatching(/^not from the disk of release v\d+: .*no loop device is free$/))
    const next = await bake({ 2: 7 })
    expect(world.gaps.store.get(EAST, next.baked.snapshots[0]!)!.parent).toBe(first.baked.snapshots[0])
    let once = 0
    const change: DirectAmiWorld['change'] = async (ask) =>
      once++ === 0 ? { kind: 'unfit', reason: 'no loop device is free' } : write(ask, new Map([[3, 7]]))
    const third = await bake({ 3: 7 }, planOf(), { by: baker({ change }) })
    expect(world.gaps.store.get(EAST, third.baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(await wrong(third.baked, { 3: 7 })).toEqual([])
  })

  test('whose last disk is damaged throws it away, says so, and begins with the base', async () => {
    await bake({ 1: 7 })
    const [kept] = globSync(join(dir, 'lineages/*/*.qcow2'))
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 238 ${BLOCK_BYTES} 4096`, kept!])
    const { baked } = await bake({ 1: 9 })
    expect(told()).toContainEqual(
      expect.stringContaining("the disk of release v2 is thrown away: block 1 isn't what was recorded"),
    )
    expect(world.gaps.store.get(EAST, baked.snapshots[0]!)!.parent).toBe(base.snapshot)
    expect(await wrong(baked, { 1: 9 })).toEqual([])
  })

  let lastWrites: Record<number, number> = {}
  /** In a directory of its own, whatever others write meanwhile. */
  async function bakeAlone(blocks: Record<number, number>, meeting: () => Promise<void>): Promise<BakedAmi> {
    const by = baker({
      async change(change) {
        await meeting()
        return write(change, new Map(Object.entries(blocks).map(([at, byte]) => [Number(at), byte])))
      },
    })
    const run = await runOf(proving)
    const baked = (await by.bake(planOf(), run)) as BakedAmi
    await by.published?.(baked, run)
    return baked
  }
  /** Nobody goes on before so many are there. */
  function meet(count: number): () => Promise<void> {
    const all = Promise.withResolvers<void>()
    let there = 0
    return () => {
      if (++there === count) all.resolve()
      return all.promise
    }
  }
  /** What the disk holds that the next one is made from. */
  async function whatIsLast(bakes: BakedAmi[], writes: Record<number, number>[]): Promise<Record<number, number>> {
    const [head] = globSync(join(dir, 'lineages/*/*.json'))
    const { snapshots } = JSON.parse(await readFile(head!, 'utf8')) as Head
    return writes[bakes.findIndex((baked) => baked.snapshots[0] === snapshots[EAST])]!
  }
})

describe('a base', () => {
  test('whose copy here is damaged is brought again', async () => {
    await bake({ 1: 7 })
    // The lineage begins anew, with what was brought before.
    for (const path of globSync(join(dir, 'lineages/*/*.json'))) await rm(path)
    await rm(join(dir, 'ledger/parents'), { recursive: true })
    const [copy] = globSync(join(dir, 'lineages/*/base.raw'))
    await using file = await open(copy!, 'r+')
    await file.write(Buffer.alloc(BLOCK_BYTES, 0xee), 0, BLOCK_BYTES, BLOCK_BYTES)
    const { baked } = await bake({ 1: 9 })
    expect(await wrong(baked, { 1: 9 })).toEqual([])
    expect(told()).toContainEqual(expect.stringContaining("the copy of the base is thrown away: block 1 isn't what was recorded"))
  })

  test('of others is copied into the account, once', async () => {
    base = await makeBase({ ownerId: '137112412989' })
    const first = await bake({ 1: 7 })
    const second = await bake({ 2: 8 })
    expect(await wrong(second.baked, { 1: 7, 2: 8 })).toEqual([])
    expect(world.gaps.changes.filter(({ action }) => action === 'CopyImage')).toHaveLength(1)
    const parent = world.gaps.store.get(EAST, first.baked.snapshots[0]!)!.parent!
    expect(parent).not.toBe(base.snapshot)
    const copies = await images(EAST).tagged({ 'bake:base-of': base.id })
    expect(copies).toMatchObject([{ snapshots: [parent], tags: { 'bake:key': 'none', 'bake:project': 'shop' } }])
    expect(Object.keys(copies[0]!.tags)).not.toContain('bake:run')
  })

  test('is copied encrypted first where encryption by default is on; then every block is put', async () => {
    world.gaps.store.encryptedByDefault.add(EAST)
    const { baked } = await bake({ 1: 7 })
    const snapshot = world.gaps.store.get(EAST, baked.snapshots[0]!)!
    expect(snapshot.encrypted).toBe(true)
    // All but what the base has and nothing changed.
    expect(snapshot.written.size).toBe(2048 - BASE_BLOCKS.length + 1)
    expect(await wrong(baked, { 1: 7 })).toEqual([])
    const { baked: second } = await bake({ 2: 8 })
    expect(written(EAST, second.snapshots[0]!)).toEqual([2])
    expect(await wrong(second, { 1: 7, 2: 8 })).toEqual([])
  })

  test('is copied once for each key, and a copy that is under way is waited for', async () => {
    world.gaps.kmsKeys.add('alias/a').add('alias/b')
    world.gaps.pendingLooks = 2
    const image = (await images(EAST).get(base.id))!
    const of = (kmsKey: string, region = EAST) =>
      baseSnapshot(image, region, { kmsKey, project: 'shop' }, { ...regions.world(), images, snapshots: regions.snapshots })
    const found = await Promise.all([of('alias/a'), of('alias/a'), of('alias/b'), of('alias/a', WEST)])
    world.gaps.pendingLooks = 0
    expect(found.map(({ encrypted, key }) => [encrypted, key])).toEqual(
      ['a', 'a', 'b', 'a'].map((name) => [true, `alias/${name}`]),
    )
    expect(found[0]!.id).toBe(found[1]!.id)
    expect(new Set(found.map(({ id }) => id)).size).toBe(3)
    expect(world.gaps.store.get(EAST, found[2]!.id)).toMatchObject({ encrypted: true, kmsKey: 'alias/b' })
    expect((await of('alias/b')).id).toBe(found[2]!.id)
  })
})

describe('Packer bakes, and it is said,', () => {
  test('when this machine can’t change disks', async () => {
    const by = baker({ means: async () => ({ platform: 'linux', architecture: 'amd64', helper: undefined, missing: [] }) })
    const { baked } = await bake({}, planOf(), { by })
    expect([baked.id, by.name]).toEqual(['ami-packer', 'packer'])
    expect(told()).toContainEqual(expect.stringContaining('mounted by root'))
  })

  test.each<[string, Partial<DirectAmiWorld>, string]>([
    ['is on LVM', { fileSystems: async () => [{ type: 'lvm', offset: 0, length: GIB }] }, 'in LVM'],
    ['has no engine', { change: async () => ({ kind: 'unfit', reason: 'it has no Docker Engine' }) }, 'it has no Docker Engine'],
  ])('when the base %s, which only its blocks tell', async (_, more, reason) => {
    const by = baker(more)
    const { baked, run } = await bake({ 1: 7 }, planOf(), { by })
    expect([baked.id, by.name]).toEqual(['ami-packer', 'packer'])
    expect(told()).toContainEqual(expect.stringContaining(reason))
    expect(await snapshotsOf(run)).toEqual([])
  })

  test('when the images don’t fit the base’s file system, and the volume is to be larger', async () => {
    const full: Partial<DirectAmiWorld> = {
      async change({ onLine }) {
        for (const line of ['bake-phase: prepare begin', 'bake: the images need 900 MiB']) onLine?.(line)
        return { kind: 'failed', how: 'exit code 1' }
      },
    }
    const larger = planOf()
    larger.definition.ami.volume = { sizeBytes: 2 * GIB }
    const { baked } = await bake({}, larger, { by: baker(full) })
    expect(baked.id).toBe('ami-packer')
    expect(told()).toContainEqual(expect.stringMatching(/machine\.ami\.volume\.size asks: prepare: the images need 900 MiB/))
    larger.definition.ami.volume = { sizeBytes: GIB }
    await expect(bake({}, larger, { by: baker(full) })).rejects.toMatchObject({ code: 'bake_failed' })
  })

  test('when the base has several volumes or is billed', async () => {
    const { unfitAmi } = await import('../../../src/ami/direct/fit-ami.ts')
    const image = (await images(EAST).get(base.id))!
    expect(unfitAmi(image)).toBeUndefined()
    expect(unfitAmi({ ...image, productCodes: ['abc'] })).toContain('product codes')
    expect(unfitAmi({ ...image, billing: { platform: 'Red Hat Enterprise Linux', operation: 'RunInstances:0010' } })).toContain(
      'billed as Red Hat',
    )
    expect(unfitAmi({ ...image, snapshots: ['snap-1', 'snap-2'] })).toContain('2 volumes')
    expect(unfitAmi({ ...image, hardware: { virtualization: 'paravirtual', ena: false } })).toContain('paravirtual')
  })
})

describe('when it fails nothing is left, and nothing is built upon it:', () => {
  const fails = async (prove: Prove = proving, signal?: AbortSignal) => {
    writes = new Map([[3, 3]])
    const run = await runOf(prove, signal)
    const error = await baker()
      .bake(planOf(), run)
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
    expect(await snapshotsOf(run)).toEqual([])
    const { Images } = await world
      .client()
      .send(new DescribeImagesCommand({ Owners: ['self'], Filters: [{ Name: 'tag:bake:run', Values: [run.id] }] }))
    expect(Images).toEqual([])
    return error
  }

  test('the proof', async () => {
    const failing: Prove = async () => {
      throw new Error('not proven')
    }
    expect(await fails(failing)).toMatchObject({ message: 'not proven' })
  })

  test('the upload, which ends the proof', async () => {
    world.ebs.denied.add('PutSnapshotBlock')
    let ended = false
    const slow: Prove = (_disk, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          ended = true
          reject(signal.reason)
        })
      })
    expect(await fails(slow)).toMatchObject({ code: 'ec2_denied', next: expect.stringContaining('ebs:PutSnapshotBlock') })
    expect(ended).toBe(true)
  })

  test('the registration', async () => {
    world.gaps.denied.add('RegisterImage')
    expect(await fails()).toMatchObject({ code: 'ec2_denied', next: expect.stringContaining('ec2:RegisterImage') })
  })

  test('what is read back differs', async () => {
    const puts: string[] = []
    world.ebs.fault = ({ action, snapshot }) => {
      if (action === 'PutSnapshotBlock') puts.push(snapshot)
      // After it was completed, EBS has another block than was sent.
      if (action === 'ListSnapshotBlocks' && puts.includes(snapshot)) world.gaps.store.get(EAST, snapshot)!.blocks.delete(3)
      return undefined
    }
    expect(await fails()).toMatchObject({ code: 'readback_differs', message: expect.stringContaining('in 1 blocks: 3') })
  })

  test('it is stopped', async () => {
    const stop = new AbortController()
    world.ebs.fault = ({ action }) => {
      if (action === 'PutSnapshotBlock') stop.abort(new Error('stopped'))
      return undefined
    }
    expect(await fails(proving, stop.signal)).toMatchObject({ message: 'stopped' })
  })
})

test('what may not be done is named before anything is made', async () => {
  world.gaps.denied.add('RegisterImage')
  const check = baker().prevalidate(planOf(), new AbortController().signal)
  await expect(check).rejects.toMatchObject({ code: 'ec2_denied', next: expect.stringContaining('ec2:RegisterImage') })
})
