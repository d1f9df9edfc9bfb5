import { DescribeImagesCommand, DescribeSnapshotsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { MachineEvent } from '../../src/ami/machine.ts'
import { awsShelf } from '../../src/ami/shelf-aws.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { amiPlan } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

const EAST = MOTO_REGION
const WEST = 'eu-west-1'
const SOUTH = 'ap-southeast-2'
const DAY_SECONDS = 86_400

let world: TestEc2
let told: MachineEvent[]
let stop: AbortController
const opened = new Map<string, Ec2Images>()
const images = (region: string): Ec2Images => {
  const found = opened.get(region) ?? new Ec2Images(new Ec2(region), { pollMs: 2 })
  opened.set(region, found)
  return found
}
const shelf = () => awsShelf({ images, signal: stop.signal, tell: (event) => told.push(event) })

beforeAll(async () => {
  world = await startEc2()
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  told = []
  stop = new AbortController()
  world.gaps.denied.clear()
  world.gaps.kmsKeys.clear()
  world.gaps.kmsKeys.add('alias/shop')
  world.gaps.pendingLooks = 1
  world.gaps.changes.length = 0
})

const bakedAmi = async () => {
  const run = uniqueName('run')
  const { id, snapshot } = await world.makeImage({ tags: { 'bake:run': run, 'bake:project': 'shop', 'bake:proven': 'true' } })
  return { run, baked: { kind: 'ami' as const, region: EAST, id, snapshots: [snapshot] } }
}
const everything = amiPlan({
  ami: {
    regions: [EAST, WEST, SOUTH],
    shareWith: ['111122223333', '444455556666'],
    kmsKey: 'alias/shop',
    deprecateAfterSeconds: 90 * DAY_SECONDS,
    protect: true,
    tags: { team: 'a' },
  },
})
const ofRun = async (run: string, region: string) => images(region).tagged({ 'bake:run': run })
const changed = () => world.gaps.changes.map(({ action }) => action)

test('an image is registered as asked, in its region and in copies elsewhere, and a second time nothing is left to do', async () => {
  const { run, baked } = await bakedAmi()
  const kept = await shelf().keep(baked, everything, 0)
  expect(kept).toMatchObject({ ...baked, copies: [{ region: WEST }, { region: SOUTH }] })
  if (kept.kind !== 'ami') throw new Error('no AMI')
  const home = (await images(EAST).get(baked.id))!
  for (const { region, id, snapshots } of [kept, ...kept.copies!]) {
    const image = (await images(region).get(id))!
    expect(image).toMatchObject({ name: home.name, imdsV2: true, protected: true, snapshots })
    expect(image.tags).toMatchObject({
      ...{
        'bake:run': run,
        'bake:project': 'shop',
        'bake:proven': 'true',
        'bake:inputs': everything.inputs,
        team: 'a',
        Name: home.name,
      },
      ...(region === EAST ? {} : { 'bake:copy-of': baked.id }),
    })
    expect(Math.abs(image.deprecatedAt! - home.createdAt - 90 * DAY_SECONDS * 1000)).toBeLessThanOrEqual(60_000)
    expect(await images(region).sharedWith(id)).toEqual(['111122223333', '444455556666'])
    const { Snapshots } = await world.client(region).send(new DescribeSnapshotsCommand({ SnapshotIds: snapshots }))
    expect(Snapshots?.[0]?.Tags).toEqual(expect.arrayContaining([{ Key: 'bake:run', Value: run }]))
  }
  const copies = world.gaps.changes.filter(({ action }) => action === 'CopyImage')
  expect(copies.map(({ form }) => [form.get('KmsKeyId'), form.get('Encrypted')])).toEqual([
    ['alias/shop', 'true'],
    ['alias/shop', 'true'],
  ])
  expect(await shelf().has(kept)).toBe(true)
  world.gaps.changes.length = 0
  expect(await shelf().keep(baked, everything, 0)).toEqual(kept)
  expect(changed()).toEqual([])
})

test('without options it is tagged and needs IMDSv2, no more', async () => {
  const { baked } = await bakedAmi()
  expect(await shelf().keep(baked, amiPlan(), 0)).toEqual(baked)
  expect(changed().filter((action) => !['RunInstances', 'CreateImage', 'TerminateInstances'].includes(action))).toEqual([
    'CreateTags',
    'CreateTags',
    'ModifyImageAttribute',
  ])
})

test('what is discarded is gone in every region, protected or not, with its snapshots', async () => {
  const { run, baked } = await bakedAmi()
  const kept = await shelf().keep(baked, everything, 0)
  await shelf().discard(kept)
  for (const region of [EAST, WEST, SOUTH]) {
    expect(await ofRun(run, region)).toEqual([])
    const Filters = [{ Name: 'tag:bake:run', Values: [run] }]
    expect((await world.client(region).send(new DescribeSnapshotsCommand({ Filters }))).Snapshots).toEqual([])
  }
  expect(await shelf().has(kept)).toBe(false)
  await shelf().discard(kept)
})

test('an image whose copy is gone isn’t there', async () => {
  const { baked } = await bakedAmi()
  const kept = await shelf().keep(baked, amiPlan({ ami: { regions: [WEST] } }), 0)
  expect(await shelf().has(kept)).toBe(true)
  if (kept.kind !== 'ami') throw new Error('no AMI')
  await images(WEST).remove(kept.copies![0]!)
  expect(await shelf().has(kept)).toBe(false)
})

describe('when it fails no copy is left, and the image is as it was', () => {
  const nothingElsewhere = async (run: string) => {
    expect(await Promise.all([WEST, SOUTH].map((region) => ofRun(run, region)))).toEqual([[], []])
  }

  test('because a key is unknown: with EC2’s reason', async () => {
    world.gaps.kmsKeys.clear()
    const { run, baked } = await bakedAmi()
    await expect(shelf().keep(baked, everything, 0)).rejects.toMatchObject({
      code: 'ami_failed',
      message: expect.stringContaining('alias/shop'),
      next: expect.stringContaining('KMS key'),
    })
    await nothingElsewhere(run)
    const { Images } = await world.client().send(new DescribeImagesCommand({ ImageIds: [baked.id] }))
    expect(Images).toHaveLength(1)
  })

  test.for(['EnableImageDeprecation', 'EnableImageDeregistrationProtection', 'ModifyImageAttribute', 'CreateTags'])(
    'because %s isn’t allowed, which is named',
    async (action) => {
      const { run, baked } = await bakedAmi()
      world.gaps.denied.add(action)
      await expect(shelf().keep(baked, everything, 0)).rejects.toMatchObject({
        code: 'ec2_denied',
        exit: 4,
        next: expect.stringContaining(`ec2:${action}`),
      })
      world.gaps.denied.clear()
      await nothingElsewhere(run)
    },
  )

  test('because the person stopped it', async () => {
    world.gaps.pendingLooks = 1_000
    const { run, baked } = await bakedAmi()
    const keeping = shelf().keep(baked, everything, 0)
    await expect.poll(() => changed().filter((action) => action === 'CopyImage').length).toBe(2)
    stop.abort(new Error('stopped'))
    await expect(keeping).rejects.toThrow('stopped')
    world.gaps.pendingLooks = 0
    await nothingElsewhere(run)
  })
})

test('a copy that a killed run began is taken, not made again', async () => {
  const { run, baked } = await bakedAmi()
  const image = (await images(EAST).get(baked.id))!
  const id = await images(WEST).copy({
    ...{ sourceRegion: EAST, sourceId: baked.id, name: image.name, description: '', token: uniqueName('t') },
    tags: { 'bake:run': run, 'bake:copy-of': baked.id },
  })
  const kept = await shelf().keep(baked, amiPlan({ ami: { regions: [WEST] } }), 0)
  expect(kept).toMatchObject({ copies: [{ region: WEST, id }] })
  expect(await ofRun(run, WEST)).toHaveLength(1)
})
