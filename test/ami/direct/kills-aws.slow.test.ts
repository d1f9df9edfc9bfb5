import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DescribeImagesCommand, DescribeSnapshotsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bakeRelease } from '../../../src/ami/bake.ts'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { parentSnapshots } from '../../../src/ami/direct/kept.ts'
import type { AmiBase, Baked } from '../../../src/ami/machine.ts'
import { prunePart } from '../../../src/ami/prune.ts'
import { awsPart } from '../../../src/ami/prune-aws.ts'
import { localPart } from '../../../src/ami/prune-local.ts'
import { GroupImages } from '../../../src/io/autoscaling-images.ts'
import { Ec2 } from '../../../src/io/ec2.ts'
import { Ec2Images } from '../../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../../src/io/ec2-instances.ts'
import { Ec2Leftovers } from '../../../src/io/ec2-leftovers.ts'
import { Ec2Templates } from '../../../src/io/ec2-templates.ts'
import { ASK } from '../../support/bake-world.ts'
import { cells } from '../../support/cells.ts'
import { makeDirectAmiWorld } from '../../support/direct-ami-world.ts'
import { startEc2, type TestEc2 } from '../../support/ec2.ts'
import { MOTO_REGION as EAST, uniqueName } from '../../support/moto.ts'
import { startRegistry, type TestRegistry } from '../../support/registry.ts'
import { makeRepo, type TestRepo } from '../../support/repo.ts'
import { differences, openDiskFile } from './disk-file.ts'

const WEST = 'eu-west-1'
const GIB = 2 ** 30
/** Whoever bakes after a kill waits so long. */
const LEASE_MS = 6_000
const CHILD = fileURLToPath(new URL('../../support/direct-ami-process.ts', import.meta.url))
/** Between two steps of the story, the telling ones first; and whether what is killed there is published. */
const POINTS: [point: string, published: boolean][] = [
  ['direct-registered', false],
  ['direct-completed', false],
  ['direct-named', true],
  ['ami-claimed', false],
  ['ami-dir', false],
  ['direct-overlay', false],
  ['direct-changed', false],
  ['direct-compared', false],
  ['direct-started', false],
  ['direct-half', false],
  ['direct-put', false],
  ['ami-baked', false],
  ['ami-proven', false],
  ['ami-kept', false],
  ['ami-recorded', false],
  ['ami-published', true],
  ['direct-published', true],
  ['direct-moved', true],
  ['direct-hashes', true],
  ['direct-head', true],
  ['direct-promoted', true],
  ['ami-release', true],
  ['ami-linked', true],
]
const project = uniqueName('shop')
const YAML = `project: ${project}
images:
  web: { context: web }
machine:
  base: { ami: { owner: self, name: base } }
  instance_type: t3.small
  ami: { regions: [${EAST}, ${WEST}] }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/" } }
`

let ec2: TestEc2
let registry: TestRegistry
let repo: TestRepo
let base: AmiBase
let release = 0
beforeAll(async () => {
  ec2 = await startEc2()
  registry = await startRegistry()
  const dockerfile = 'FROM scratch\nCOPY content /\n'
  repo = await makeRepo({ files: { 'bake.yaml': YAML, 'web/Dockerfile': dockerfile, 'web/content': '0\n' } })
  const { id, snapshot } = await ec2.makeImage()
  const blocks = new Map([0, 1, 30, 2047].map((index) => [index, Buffer.alloc(BLOCK_BYTES, 200 + (index % 50))]))
  await ec2.gaps.store.fill(EAST, snapshot, { volumeGib: 1, blocks })
  base = {
    ...{ kind: 'ami', id, region: EAST, name: 'base', ownerId: '123456789012', createdAt: 0, architecture: 'amd64' },
    ...{ rootDevice: '/dev/xvda', virtualBytes: 8 * GIB },
  }
  await next()
  await baked()
}, 300_000)
afterAll(async () => {
  await repo?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
  await ec2?.[Symbol.asyncDispose]()
})

/** A release writes these blocks, whatever was there: the same ones each time, of which some stay as they are, and one becomes zeros. */
const writesOf = (n: number): Record<number, number> => ({
  1: n,
  ...Object.fromEntries(Array.from({ length: 8 }, (_, at) => [10 + at, at === n % 8 ? n : 0])),
  20: 7,
})
async function next(): Promise<void> {
  release++
  await repo.commit({ 'web/content': `${release}\n` })
  await repo.git('tag', `v${release}`)
}
const options = (n: number) => ({ dir: repo.dir, registry: registry.host, base, writes: writesOf(n), leaseMs: LEASE_MS })
const open = () => makeDirectAmiWorld(options(release))

/** Bakes the release; what each region has of it is byte by byte what the release writes upon the base. */
async function baked(): Promise<string> {
  await using world = await open()
  const { status, machine } = await bakeRelease({ ...ASK, release: `v${release}` }, world)
  await holds(machine.baked)
  return status
}
async function holds(image: Baked): Promise<void> {
  if (image.kind !== 'ami') throw new Error('no AMI')
  const { store } = ec2.gaps
  const snapshot = (await images(EAST).get(base.id))!.rootSnapshot!
  await using disk = await openDiskFile(GIB)
  for (const [index, hash] of store.get(EAST, snapshot)!.blocks) await disk.write(index, await store.read(hash))
  for (const [index, byte] of Object.entries(writesOf(release))) await disk.write(Number(index), Buffer.alloc(BLOCK_BYTES, byte))
  const all = [image, ...image.copies!]
  expect(all.map(({ region }) => region)).toEqual([EAST, WEST])
  for (const { region, snapshots } of all) expect(await differences(store, { region, id: snapshots[0]! }, disk)).toEqual([])
}
const images = (region: string) => new Ec2Images(new Ec2(region))

/** Kills a bake of the release at the point; false: it was done before it got there. */
async function killed(point: string): Promise<boolean> {
  const ask = { release: `v${release}`, ...options(release) }
  const env = { ...process.env, BAKE_FAILPOINT: `${point}:kill` }
  const child = spawn(process.execPath, [CHILD, JSON.stringify(ask)], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  if (code !== 0) expect(signal, stderr).toBe('SIGKILL')
  return signal === 'SIGKILL'
}

async function pass(): Promise<string[]> {
  await using world = await open()
  const region = (name: string) => {
    const it = new Ec2(name)
    const [instances, leftovers] = [new Ec2Instances(it), new Ec2Leftovers(it)]
    return { images: new Ec2Images(it), instances, leftovers, templates: new Ec2Templates(it), groups: new GroupImages(name) }
  }
  const aws = awsPart({ ...world, project, regions: [EAST, WEST], region, delivered: async () => new Set<string>() })
  const parts = [aws, localPart({ ...world, host: hostname() })]
  const did = await Promise.all(parts.map((part) => prunePart(part, world.ledger, { dryRun: false })))
  return did.flat().map(({ did: what, kind, id }) => `${what} ${kind} ${id}`)
}

/** How many bakes the last disk is from the base. */
async function generation(): Promise<number> {
  await using world = await open()
  const heads = await Promise.all((await world.ledger.list('parents/')).map((key) => world.ledger.get(key)))
  return (heads as { head: { generation: number; build: string } }[])
    .map(({ head }) => head)
    .sort((a, b) => a.build.localeCompare(b.build))
    .at(-1)!.generation
}

/** Images of the project, of each region; and snapshots that neither they nor a worker's next bake need. */
async function onAws() {
  await using world = await open()
  const parents = await parentSnapshots(world.ledger, Date.now())
  const Filters = [
    { Name: 'tag:bake:project', Values: [project] },
    { Name: 'tag-key', Values: ['bake:run'] },
  ]
  const seen = [EAST, WEST].map(async (region) => {
    const client = ec2.client(region)
    const [{ Images = [] }, { Snapshots = [] }] = await Promise.all([
      client.send(new DescribeImagesCommand({ Owners: ['self'], Filters })),
      client.send(new DescribeSnapshotsCommand({ Filters })),
    ])
    const used = new Set(Images.flatMap(({ BlockDeviceMappings = [] }) => BlockDeviceMappings.map(({ Ebs }) => Ebs?.SnapshotId)))
    const spare = Snapshots.filter(
      ({ SnapshotId = '', State }) => State !== 'completed' || !(used.has(SnapshotId) || parents.has(SnapshotId)),
    )
    return { images: Images.length, spare: spare.map(({ SnapshotId, State }) => `${SnapshotId} ${State}`) }
  })
  return Promise.all(seen)
}

test.each(cells(POINTS, 3))(
  'killed at %s, and again: prune leaves nothing, and the next bakes are right',
  async (point, published) => {
    await next()
    expect(await killed(point)).toBe(true)
    // What is published is found, and passes no point before that again.
    expect(await killed(point)).toBe(!published || point.startsWith('ami-release') || point.startsWith('ami-linked'))

    const marked = await pass()
    expect(marked.filter((line) => !line.startsWith('marked'))).toEqual([])
    expect((await pass()).map((line) => line.replace(/^deleted/, 'marked')).sort()).toEqual(marked.sort())
    const before = published ? release : release - 1
    expect(await onAws()).toEqual([EAST, WEST].map(() => ({ images: before, spare: [] })))
    expect(await readdir(join(repo.dir, '.bake/bakes'))).toEqual([])

    expect(await baked()).toBe(published ? 'found' : 'baked')
    await next()
    expect(await baked()).toBe('baked')
    // Each twenty bakes the disks begin anew, and nothing stands on those before.
    const last = await pass()
    if ((await generation()) > 2) expect(last).toEqual([])
    else expect(last.filter((line) => !line.startsWith('marked file lineages/'))).toEqual([])
    expect((await pass()).filter((line) => !line.startsWith('deleted file lineages/'))).toEqual([])
    expect(await onAws()).toEqual([EAST, WEST].map(() => ({ images: release, spare: [] })))
  },
)
