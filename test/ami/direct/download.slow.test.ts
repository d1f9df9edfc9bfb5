import { randomBytes } from 'node:crypto'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { absentBlocks, compareSnapshot, downloadSnapshot } from '../../../src/ami/direct/download.ts'
import { hashBlock, setHash } from '../../../src/ami/direct/hashes.ts'
import { startEc2, type TestEc2 } from '../../support/ec2.ts'
import { MOTO_REGION as EAST } from '../../support/moto.ts'
import { baseSnapshot, type TestRegions, testRegions } from './aws.ts'

const never = new AbortController().signal
let world: TestEc2
let regions: TestRegions
let dir: string
let blocks: Map<number, Buffer>
let snapshot: string

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
  dir = await mkdtemp(join(tmpdir(), 'bake-download-'))
  blocks = new Map([0, 1, 77, 2047].map((index) => [index, randomBytes(BLOCK_BYTES)]))
  snapshot = await baseSnapshot(world, EAST, blocks)
  return () => rm(dir, { recursive: true })
})

const path = () => join(dir, 'disk.raw')
const download = () => downloadSnapshot(snapshot, path(), regions.ebs(EAST), never)
const compare = (hashes: Buffer, encrypted = false) =>
  compareSnapshot({ id: snapshot, encrypted }, hashes, regions.ebs(EAST), never)

describe('a snapshot', () => {
  test('becomes a sparse file of its volume’s size, and hashes of its blocks', async () => {
    const hashes = await download()
    const { size, blocks: sectors } = await stat(path())
    expect(size).toBe(2 ** 30)
    expect(sectors * 512).toBeLessThan(6 * BLOCK_BYTES)
    await using file = await open(path())
    for (const index of [0, 1, 2, 77, 2047]) {
      const read = Buffer.alloc(BLOCK_BYTES)
      await file.read(read, 0, BLOCK_BYTES, index * BLOCK_BYTES)
      expect(read.equals(blocks.get(index) ?? Buffer.alloc(BLOCK_BYTES))).toBe(true)
    }
    await compare(hashes)
    expect(await absentBlocks(snapshot, 2 ** 30, regions.ebs(EAST), never)).toHaveLength(2048 - 4)
  })

  test('goes through with throttling and lost connections', async () => {
    let gets = 0
    world.ebs.fault = ({ action }) => {
      if (action !== 'GetSnapshotBlock' || gets++ > 8) return undefined
      return gets % 2 === 0 ? 'RequestThrottledException' : 'reset'
    }
    await compare(await download())
  })

  test('that has a block which isn’t what EBS’s checksum says is refused', async () => {
    const { store } = world.gaps
    const stored = store.get(EAST, snapshot)!
    const other = await store.keep(randomBytes(BLOCK_BYTES))
    const read = store.read.bind(store)
    store.read = (hash) => read(hash === stored.blocks.get(77) ? other : hash)
    await expect(download()).rejects.toMatchObject({ code: 'block_damaged', message: expect.stringContaining('block 77') })
    store.read = read
  })

  test.for(['ListSnapshotBlocks', 'GetSnapshotBlock'])('without %s names it as the action to allow', async (action) => {
    world.ebs.denied.add(action)
    await expect(download()).rejects.toMatchObject({ code: 'ec2_denied', next: expect.stringContaining(`ebs:${action}`) })
  })
})

describe('read back, differs from a disk', () => {
  test('that has other blocks, or some where the snapshot has none', async () => {
    const hashes = await download()
    for (const index of [1, 5]) setHash(hashes, index, hashBlock(randomBytes(BLOCK_BYTES)))
    await expect(compare(hashes)).rejects.toMatchObject({
      code: 'readback_differs',
      message: expect.stringContaining('2 blocks: 1, 5'),
    })
  })

  test('in all that it lacks, when it is encrypted: that is random on a volume', async () => {
    await expect(compare(await download(), true)).rejects.toMatchObject({ message: expect.stringContaining('in 2044 blocks') })
  })
})
