import { DescribeImagesCommand, DescribeSnapshotsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

const OTHER_REGION = 'eu-west-1'
const never = new AbortController().signal

let world: TestEc2
let images: Ec2Images
let elsewhere: Ec2Images
beforeAll(async () => {
  world = await startEc2()
  images = new Ec2Images(new Ec2(MOTO_REGION), { pollMs: 5 })
  elsewhere = new Ec2Images(new Ec2(OTHER_REGION), { pollMs: 5 })
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  world.gaps.denied.clear()
  world.gaps.pendingLooks = 0
})

describe('finding', () => {
  test('by owner and name, the newest first, of one architecture', async () => {
    const found = await images.find({ owner: 'amazon', name: 'a*' }, 'x86_64')
    expect(found.length).toBeGreaterThan(1)
    expect(found.map(({ architecture }) => architecture)).toEqual(found.map(() => 'x86_64'))
    expect(found[0]).toMatchObject({ region: MOTO_REGION, state: 'available', rootDeviceType: 'ebs', productCodes: [] })
    expect(found[0]!.rootBytes).toBeGreaterThan(2 ** 30)
    const times = found.map(({ createdAt }) => createdAt)
    expect(times).toEqual([...times].sort((a, b) => b - a))
  })

  test('by id; a name or an id that is nobody’s gives none', async () => {
    const { id, snapshot } = await world.makeImage({ tags: { team: 'a' } })
    expect(await images.find({ id })).toMatchObject([
      { id, snapshots: [snapshot], tags: { team: 'a' }, imdsV2: false, protected: false },
    ])
    expect(await images.find({ id: 'ami-00000000000000000' })).toEqual([])
    expect(await images.find({ owner: 'amazon', name: 'nobody-has-this-*' })).toEqual([])
  })

  test('by tags: this account’s own, in this region', async () => {
    const run = uniqueName('run')
    const { id } = await world.makeImage({ tags: { 'bake:run': run } })
    await world.makeImage({ tags: { 'bake:run': run }, region: OTHER_REGION })
    await world.makeImage()
    expect((await images.tagged({ 'bake:run': run })).map((image) => image.id)).toEqual([id])
    expect((await images.tagged({ 'bake:run': '*' })).map((image) => image.id)).toContain(id)
  })
})

describe('changing', () => {
  test('tags, launch permissions, IMDSv2, deprecation and protection can be read back', async () => {
    const { id } = await world.makeImage({ tags: { 'bake:proven': 'false' } })
    await images.tag([id], { 'bake:proven': 'true' })
    await images.share(id, ['111122223333', '444455556666'])
    await images.requireImdsV2(id)
    const at = Date.now() + 86_400_000
    await images.deprecate(id, at)
    await images.protect(id)
    const image = (await images.get(id))!
    expect(image).toMatchObject({ tags: { 'bake:proven': 'true' }, imdsV2: true, protected: true })
    expect(Object.keys(image.tags)).toEqual(['bake:proven'])
    expect(Math.abs(image.deprecatedAt! - at)).toBeLessThanOrEqual(30_000)
    expect(await images.sharedWith(id)).toEqual(['111122223333', '444455556666'])
    await expect(images.remove(image)).rejects.toMatchObject({
      code: 'ec2_refused',
      message: expect.stringContaining('OperationNotPermitted'),
    })
  })

  test('a copy in another region carries its tags, and so does its snapshot; it is waited for', async () => {
    world.gaps.pendingLooks = 3
    world.gaps.kmsKeys.add('alias/bake')
    const { id } = await world.makeImage()
    const copy = {
      sourceRegion: MOTO_REGION,
      sourceId: id,
      name: uniqueName('copy'),
      description: 'a copy',
      token: uniqueName('t'),
    }
    const made = await elsewhere.copy({ ...copy, kmsKey: 'alias/bake', tags: { 'bake:run': 'r1' } })
    expect(await elsewhere.copy({ ...copy, kmsKey: 'alias/bake', tags: { 'bake:run': 'r1' } })).toBe(made)
    const before = world.gaps.calls.DescribeImages!
    const ready = await elsewhere.waitAvailable(made, never)
    expect(ready).toMatchObject({ state: 'available', tags: { 'bake:run': 'r1' } })
    // Three looks at which it is pending, then three in a row at which it isn't.
    expect(world.gaps.calls.DescribeImages! - before).toBe(6)
    const { Snapshots } = await world.client(OTHER_REGION).send(new DescribeSnapshotsCommand({ SnapshotIds: ready.snapshots }))
    expect(Snapshots?.[0]?.Tags).toEqual([{ Key: 'bake:run', Value: 'r1' }])
  })

  test('a copy whose key is unknown fails with EC2’s reason', async () => {
    const { id } = await world.makeImage()
    const copy = { sourceRegion: MOTO_REGION, sourceId: id, name: uniqueName('copy'), description: '', token: uniqueName('t') }
    const made = await elsewhere.copy({ ...copy, kmsKey: 'alias/nobody', tags: { a: 'b' } })
    await expect(elsewhere.waitAvailable(made, never)).rejects.toMatchObject({
      code: 'ami_failed',
      exit: 3,
      message: expect.stringContaining('alias/nobody'),
    })
  })

  test('waiting ends with the signal', async () => {
    const { id } = await world.makeImage()
    const reason = new Error('enough')
    await expect(images.waitAvailable(id, AbortSignal.abort(reason))).rejects.toBe(reason)
  })

  test('removing takes the snapshots along, and is no error the second time', async () => {
    const { id, snapshot } = await world.makeImage()
    await images.remove({ id, snapshots: [snapshot] })
    await images.remove({ id, snapshots: [snapshot] })
    expect(await images.get(id)).toBeUndefined()
    const looked = world.client().send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshot] }))
    await expect(looked).rejects.toMatchObject({ name: 'InvalidSnapshot.NotFound' })
  })
})

describe('without permission', () => {
  const calls: [string, (id: string) => Promise<unknown>][] = [
    ['DescribeImages', (id) => images.get(id)],
    ['CreateTags', (id) => images.tag([id], { a: 'b' })],
    ['ModifyImageAttribute', (id) => images.share(id, ['111122223333'])],
    ['ModifyImageAttribute', (id) => images.requireImdsV2(id)],
    ['EnableImageDeprecation', (id) => images.deprecate(id, Date.now() + 1e9)],
    ['EnableImageDeregistrationProtection', (id) => images.protect(id)],
    ['DeregisterImage', (id) => images.remove({ id, snapshots: [] })],
  ]
  test.for(calls)('%s names itself as the action to allow', async ([action, call]) => {
    const { id } = await world.makeImage()
    world.gaps.denied.add(action)
    const error = await call(id).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ec2_denied', exit: 4, next: expect.stringContaining(`ec2:${action} `), ids: { action } })
    expect(String(error)).not.toContain('Zm9v')
    world.gaps.denied.clear()
    const { Images = [] } = await world.client().send(new DescribeImagesCommand({ ImageIds: [id] }))
    expect(Images).toHaveLength(1)
  })

  test('tagging what is made needs CreateTags beside the action itself', async () => {
    const { id } = await world.makeImage()
    world.gaps.denied.add('CreateTags')
    const copy = { sourceRegion: MOTO_REGION, sourceId: id, name: uniqueName('copy'), description: '', token: uniqueName('t') }
    await expect(elsewhere.copy({ ...copy, tags: { a: 'b' } })).rejects.toMatchObject({
      code: 'ec2_denied',
      next: expect.stringContaining('ec2:CopyImage and ec2:CreateTags'),
    })
  })
})
