import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DescribeSnapshotsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { prunePart } from '../../../src/ami/prune.ts'
import { awsPart } from '../../../src/ami/prune-aws.ts'
import { writeBake } from '../../../src/ami/records.ts'
import { GroupImages } from '../../../src/io/autoscaling-images.ts'
import { Ec2 } from '../../../src/io/ec2.ts'
import { Ec2Images } from '../../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../../src/io/ec2-instances.ts'
import { Ec2Leftovers } from '../../../src/io/ec2-leftovers.ts'
import { Ec2Templates } from '../../../src/io/ec2-templates.ts'
import { DirectoryLedger } from '../../../src/io/ledger-directory.ts'
import { keys, newBuildId } from '../../../src/names.ts'
import { startEc2, type TestEc2 } from '../../support/ec2.ts'
import { MOTO_REGION as EAST, uniqueName } from '../../support/moto.ts'
import { baseSnapshot } from './aws.ts'

const WEST = 'eu-west-1'
const UPLOAD = fileURLToPath(new URL('../../support/upload-process.ts', import.meta.url))
let world: TestEc2
let dir: string
let ledger: DirectoryLedger
let project: string

beforeAll(async () => {
  world = await startEc2()
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-prune-direct-'))
  ledger = new DirectoryLedger(dir)
  project = uniqueName('shop')
  return () => rm(dir, { recursive: true })
})

const region = (name: string) => {
  const ec2 = new Ec2(name)
  const [images, instances, leftovers] = [new Ec2Images(ec2), new Ec2Instances(ec2), new Ec2Leftovers(ec2)]
  return { images, instances, leftovers, templates: new Ec2Templates(ec2), groups: new GroupImages(name) }
}
async function pass(now?: () => number): Promise<string[]> {
  const part = awsPart({
    ...{ project, regions: [EAST, WEST], region, ledger, stateDir: dir, has: async () => true, ...(now && { now }) },
    ended: ({ pid }) => pid === 0,
    delivered: async () => new Set<string>(),
  })
  return (await prunePart(part, ledger, { dryRun: false })).map(({ did, kind }) => `${did} ${kind}`).sort()
}
async function recordRun(status: 'running' | 'failed'): Promise<string> {
  const id = newBuildId()
  const common = {
    version: 1,
    build: id,
    project,
    release: 'v1',
    commit: '1'.repeat(40),
    inputs: 'a'.repeat(64),
    status,
  } as const
  const process = { host: 'here', pid: 0, start: '1' }
  await writeBake(ledger, { ...common, owner: `bake-${id}`, leaseMs: 60_000, claim: 0, by: 'me', process, startedAt: 1 })
  return id
}
async function upload(run: string, failpoint?: string): Promise<{ signal: string | null; snapshots: Map<string, string> }> {
  const parents = [EAST, WEST].map(async (each) => ({ region: each, id: await baseSnapshot(world, each, new Map()) }))
  const ask = { parents: await Promise.all(parents), blocks: 12, tags: { 'bake:run': run, 'bake:project': project } }
  const env = { ...process.env, ...(failpoint && { BAKE_FAILPOINT: `${failpoint}:kill` }) }
  const child = spawn(process.execPath, [UPLOAD, JSON.stringify(ask)], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, errors] = ['', '']
  child.stdout.on('data', (bytes) => {
    out += bytes
  })
  child.stderr.on('data', (bytes) => {
    errors += bytes
  })
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  if (code !== 0 && signal === null) throw new Error(errors)
  return { signal, snapshots: new Map(JSON.parse(out || '[]') as [string, string][]) }
}
const statesOf = async (run: string) => {
  const Filters = [{ Name: 'tag:bake:run', Values: [run] }]
  const found = await Promise.all([EAST, WEST].map((each) => world.client(each).send(new DescribeSnapshotsCommand({ Filters }))))
  return found.flatMap(({ Snapshots = [] }) => Snapshots.map(({ State }) => State))
}

test.for([
  ['direct-started', 'pending'],
  ['direct-half', 'pending'],
  ['direct-put', 'pending'],
  ['direct-completed', 'completed'],
])('an upload that was killed at %s leaves %s snapshots, which go', async ([failpoint, state]) => {
  const run = await recordRun('running')
  expect((await upload(run, failpoint)).signal).toBe('SIGKILL')
  expect(await statesOf(run)).toEqual([state, state])
  expect(await pass()).toEqual(['marked snapshot', 'marked snapshot'])
  expect(await pass()).toEqual(['deleted snapshot', 'deleted snapshot'])
  expect(await statesOf(run)).toEqual([])
})

test('what a worker’s next bake is put upon stays, until that worker baked nothing for a month', async () => {
  const run = await recordRun('failed')
  const { snapshots } = await upload(run)
  const named = { version: 1, by: 'worker-1', at: Date.now(), snapshots: { [EAST]: snapshots.get(EAST)! } }
  await ledger.put(keys.parents('worker-1'), named)
  expect(await pass()).toEqual(['marked snapshot'])
  expect(await pass()).toEqual(['deleted snapshot'])
  expect(await statesOf(run)).toEqual(['completed'])
  const later = () => Date.now() + 31 * 24 * 3600 * 1000
  expect(await pass(later)).toEqual(['marked snapshot'])
})

test('an image whose snapshot a worker’s next bake is put upon stays, with its copies', async () => {
  const run = await recordRun('failed')
  const tags = { 'bake:project': project, 'bake:run': run }
  const made = await world.makeImage({ tags })
  await world.makeImage({ tags: { ...tags, 'bake:copy-of': made.id }, region: WEST })
  await ledger.put(keys.parents('worker-1'), { version: 1, by: 'w', at: Date.now(), snapshots: { [EAST]: made.snapshot } })
  expect(await pass()).toEqual([])
})
