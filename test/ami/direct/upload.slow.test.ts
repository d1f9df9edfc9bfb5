import { randomBytes } from 'node:crypto'
import { DeleteSnapshotCommand, DescribeSnapshotsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { Pace } from '../../../src/ami/direct/pace.ts'
import { type ParentSnapshot, type Upload, type UploadWorld, uploadBlocks } from '../../../src/ami/direct/upload.ts'
import { startEc2, type TestEc2 } from '../../support/ec2.ts'
import { MOTO_REGION as EAST, uniqueName } from '../../support/moto.ts'
import { baseSnapshot, type TestRegions, testRegions } from './aws.ts'
import { type DiskFile, differences, openDiskFile } from './disk-file.ts'

const WEST = 'eu-west-1'
/** It ends within a block. */
const DISK_BYTES = 100 * 2 ** 20 + 4096
let world: TestEc2
let regions: TestRegions
let disk: DiskFile
let base: Map<number, Buffer>

beforeAll(async () => {
  world = await startEc2()
  regions = testRegions()
}, 180_000)
afterAll(async () => {
  await regions?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})
beforeEach(async () => {
  Object.assign(world.gaps.store, { visibleAfterMs: 0, completeAfterMs: 0, lateVerdict: false })
  world.ebs.fault = () => undefined
  world.ebs.denied.clear()
  world.ebs.putsPerSecond = Number.POSITIVE_INFINITY
  regions.told.length = 0
  disk = await openDiskFile(DISK_BYTES)
  base = new Map()
  for (const index of [0, 1, 2, 150, 200]) base.set(index, await disk.write(index))
  return () => disk[Symbol.asyncDispose]()
})

const baseIn = async (region = EAST): Promise<ParentSnapshot> => ({ region, id: await baseSnapshot(world, region, base) })
const upload = (parents: ParentSnapshot[], indexes: number[], more: Partial<UploadWorld> = {}, disk_ = 'd1') => {
  const run = uniqueName('run')
  const tags = { 'bake:run': run, 'bake:project': 'shop', 'bake:disk': disk_ }
  const asked: Upload = { changed: disk.changed(indexes), parents, description: 'shop v1', tags }
  return { run, done: uploadBlocks(asked, regions.world(more)) }
}
const kept = async ({ done }: ReturnType<typeof upload>) => {
  await using uploaded = await done
  uploaded.keep()
  return uploaded.snapshots
}
const leftOf = async (run: string) => {
  const Filters = [{ Name: 'tag:bake:run', Values: [run] }]
  const found = await Promise.all(
    [EAST, WEST].map((region) => world.client(region).send(new DescribeSnapshotsCommand({ Filters }))),
  )
  return found.flatMap(({ Snapshots = [] }) => Snapshots.map(({ State }) => State))
}
const changeSome = async (...indexes: number[]) => {
  for (const index of indexes) await disk.write(index)
  return indexes
}

test('a disk of several generations is byte by byte what its chain of snapshots holds', async () => {
  let parent = await baseIn()
  for (const [generation, indexes] of [
    [1, 7, 90],
    [7, 8],
    [199, 200, 3],
  ].entries()) {
    await changeSome(...indexes)
    // What became zero is put like all else.
    await disk.write(indexes[0]!, Buffer.alloc(BLOCK_BYTES))
    const snapshots = await kept(upload([parent], indexes, {}, `d${generation}`))
    const id = snapshots.get(EAST)!
    expect(world.gaps.store.get(EAST, id)).toMatchObject({ parent: parent.id, state: 'completed' })
    expect([...world.gaps.store.get(EAST, id)!.written.keys()].sort((a, b) => a - b)).toEqual([...indexes].sort((a, b) => a - b))
    parent = { region: EAST, id, disk: `d${generation}` }
  }
  expect(await differences(world.gaps.store, parent, disk)).toEqual([])
})

test('the same blocks go to each region’s own parent, read once', async () => {
  const parents = [await baseIn(EAST), await baseIn(WEST)]
  const indexes = await changeSome(1, 5, 6)
  const reads: number[] = []
  const changed = disk.changed(indexes)
  const read = (index: number) => {
    reads.push(index)
    return changed.read(index)
  }
  const counted = { ...changed, read }
  const tags = { 'bake:run': uniqueName('run'), 'bake:disk': 'd1' }
  await using uploaded = await uploadBlocks({ changed: counted, parents, description: 'x', tags }, regions.world())
  expect(reads.sort()).toEqual(indexes)
  for (const [region, id] of uploaded.snapshots) expect(await differences(world.gaps.store, { region, id }, disk)).toEqual([])
  uploaded.keep()
})

test('a disk that nothing changed on is a snapshot too', async () => {
  const snapshots = await kept(upload([await baseIn()], []))
  expect(await differences(world.gaps.store, { region: EAST, id: snapshots.get(EAST)! }, disk)).toEqual([])
})

test('what isn’t kept is deleted', async () => {
  const { run, done } = upload([await baseIn()], await changeSome(4))
  {
    await using _uploaded = await done
    expect(await leftOf(run)).toEqual(['completed'])
  }
  expect(await leftOf(run)).toEqual([])
})

describe('goes through with', () => {
  test('a snapshot that "does not exist" at first, without asking with every block', async () => {
    world.gaps.store.visibleAfterMs = 700
    const before = world.ebs.calls.PutSnapshotBlock ?? 0
    const indexes = await changeSome(...Array.from({ length: 60 }, (_, at) => at))
    const snapshots = await kept(upload([await baseIn()], indexes))
    expect(await differences(world.gaps.store, { region: EAST, id: snapshots.get(EAST)! }, disk)).toEqual([])
    expect(world.ebs.calls.PutSnapshotBlock! - before).toBeLessThan(65)
  })

  test('throttling: all lanes slow down together', async () => {
    world.ebs.putsPerSecond = 40
    const pace = new Pace()
    const before = world.ebs.calls.PutSnapshotBlock ?? 0
    const indexes = await changeSome(...Array.from({ length: 100 }, (_, at) => at))
    const snapshots = await kept(upload([await baseIn()], indexes, { pace }))
    const refused = world.ebs.calls.PutSnapshotBlock! - before - 100
    expect(await differences(world.gaps.store, { region: EAST, id: snapshots.get(EAST)! }, disk)).toEqual([])
    expect(refused).toBeGreaterThan(0)
    // Each lane for itself would be refused thousands of times.
    expect(refused).toBeLessThan(200)
    expect(pace.perSecond).toBeLessThan(1_000)
  })

  test('puts that are cut, fail, and are carried out without an answer', async () => {
    const faults = ['reset', 'InternalServerException', 'late', 'RequestThrottledException'] as const
    let puts = 0
    world.ebs.fault = ({ action }) =>
      action === 'PutSnapshotBlock' && puts++ % 5 < 4 && puts < 40 ? faults[puts % 4] : undefined
    const indexes = await changeSome(...Array.from({ length: 30 }, (_, at) => at))
    const snapshots = await kept(upload([await baseIn()], indexes))
    expect(await differences(world.gaps.store, { region: EAST, id: snapshots.get(EAST)! }, disk)).toEqual([])
  })

  test.for([false, true])(
    'a put that was acknowledged and lost: its region is uploaded once more (found late: %s)',
    async (late) => {
      world.gaps.store.lateVerdict = late
      let lost = 0
      world.ebs.fault = ({ action, index, region }) =>
        action === 'PutSnapshotBlock' && index === 6 && region === EAST && lost++ === 0 ? 'forgotten' : undefined
      const parents = [await baseIn(EAST), await baseIn(WEST)]
      const started = upload(parents, await changeSome(5, 6))
      const snapshots = await kept(started)
      for (const [region, id] of snapshots) expect(await differences(world.gaps.store, { region, id }, disk)).toEqual([])
      expect(await leftOf(started.run)).toEqual(['completed', 'completed'])
      expect(regions.told).toMatchObject([{ level: 'warning', text: expect.stringContaining('once more') }])
    },
  )
})

describe('fails, and nothing stays,', () => {
  test('when blocks are lost twice', async () => {
    world.ebs.fault = ({ action, index }) => (action === 'PutSnapshotBlock' && index === 6 ? 'forgotten' : undefined)
    const { run, done } = upload([await baseIn()], await changeSome(5, 6))
    await expect(done).rejects.toMatchObject({ code: 'upload_damaged', exit: 4 })
    expect(await leftOf(run)).toEqual([])
  })

  test('when puts go on failing, with EBS’s words', async () => {
    world.ebs.fault = ({ action, index }) =>
      action === 'PutSnapshotBlock' && index === 9 ? 'ServiceQuotaExceededException' : undefined
    const { run, done } = upload([await baseIn()], await changeSome(5, 6, 7, 8, 9, 10))
    await expect(done).rejects.toMatchObject({ code: 'ec2_refused', message: expect.stringContaining('ServiceQuotaExceeded') })
    expect(await leftOf(run)).toEqual([])
  })

  test.for(['StartSnapshot', 'PutSnapshotBlock', 'CompleteSnapshot'])('when %s isn’t allowed, which is named', async (action) => {
    world.ebs.denied.add(action)
    const { run, done } = upload([await baseIn()], await changeSome(5))
    await expect(done).rejects.toMatchObject({ code: 'ec2_denied', exit: 4, next: expect.stringContaining(`ebs:${action}`) })
    expect(await leftOf(run)).toEqual([])
  })

  test('when one region’s parent is gone: nothing is begun in the other', async () => {
    const east = await baseIn(EAST)
    const child = (await kept(upload([await baseIn(WEST)], []))).get(WEST)!
    const west = { region: WEST, id: child }
    await world.client(WEST).send(new DeleteSnapshotCommand({ SnapshotId: west.id }))
    const { run, done } = upload([east, west], await changeSome(5))
    await expect(done).rejects.toMatchObject({ code: 'parent_missing', ids: { snapshot: west.id, region: WEST } })
    expect(await leftOf(run)).toEqual([])
  })

  test('when the parent is deleted between the look and the start', async () => {
    const parent = await baseIn()
    world.ebs.fault = ({ action }) => (action === 'StartSnapshot' ? 'ResourceNotFoundException' : undefined)
    const { done } = upload([parent], await changeSome(5))
    await expect(done).rejects.toMatchObject({ code: 'parent_missing', ids: { snapshot: parent.id } })
  })

  test('when the parent holds another disk', async () => {
    const id = (await kept(upload([await baseIn()], await changeSome(5), {}, 'd1'))).get(EAST)!
    const { run, done } = upload([{ region: EAST, id, disk: 'd2' }], await changeSome(6))
    await expect(done).rejects.toMatchObject({ code: 'parent_foreign', message: expect.stringContaining('d1, not d2') })
    expect(await leftOf(run)).toEqual([])
  })

  test('when the parent is larger than the disk', async () => {
    const id = await baseSnapshot(world, EAST, base, { volumeGib: 2 })
    await expect(upload([{ region: EAST, id }], [1]).done).rejects.toMatchObject({ code: 'parent_foreign' })
  })

  test('when it is stopped in the middle', async () => {
    const stop = new AbortController()
    const indexes = Array.from({ length: 60 }, (_, at) => at)
    world.ebs.fault = ({ action, index }) => {
      if (action === 'PutSnapshotBlock' && index === 30) stop.abort(new Error('stopped'))
      return undefined
    }
    const { run, done } = upload([await baseIn(EAST), await baseIn(WEST)], await changeSome(...indexes), { signal: stop.signal })
    await expect(done).rejects.toThrow('stopped')
    expect(await leftOf(run)).toEqual([])
  })
})

test('random blocks differ, or these tests would see nothing', () => {
  expect(randomBytes(BLOCK_BYTES).equals(randomBytes(BLOCK_BYTES))).toBe(false)
})
