import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { compareBlocks, DamagedDisk, damagedBlock, hashReader } from '../../src/ami/direct/hashes.ts'
import { copyDisk } from '../../src/io/copy-disk.ts'
import { openLayers } from '../../src/io/disk-layers.ts'
import { convertImage, createOverlay, rebaseOverlay } from '../../src/io/qemu-img.ts'
import { backingOf, standsOn } from '../../src/qcow2.ts'

const run = promisify(execFile)
const signal = AbortSignal.timeout(60_000)
/** Not a multiple of a block. */
const BYTES = 40 * BLOCK_BYTES + 4096

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-layers-'))
  await using file = await open(join(dir, 'base.raw'), 'w')
  await file.truncate(BYTES)
  for (const block of [0, 3, 4, 5, 20, 40]) await file.write(Buffer.alloc(4096, block + 1), 0, 4096, block * BLOCK_BYTES)
})
afterEach(() => rm(dir, { recursive: true, force: true }))
const at = (name: string) => join(dir, name)
const io = (path: string, ...commands: string[]) =>
  run('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((one) => ['-c', one]), path])

async function hashOf(path: string): Promise<string> {
  await convertImage({ path, format: 'qcow2' }, { path: at('flat'), format: 'raw' })
  const hash = createHash('sha256').update(await readFile(at('flat')))
  await rm(at('flat'))
  return hash.digest('hex')
}
async function readHash(path: string): Promise<string> {
  await using layer = await openLayers(path, 'qcow2')
  const hash = createHash('sha256')
  // Pieces that begin and end anywhere.
  for (let offset = 0; offset < layer.bytes; offset += 300_001)
    hash.update(await layer.read(offset, Math.min(300_001, layer.bytes - offset)))
  return hash.digest('hex')
}

test('a chain of overlays reads as QEMU reads it, and tells what was written', async () => {
  await createOverlay(at('one.qcow2'), { path: at('base.raw'), format: 'raw' }, { tracked: true })
  await io(at('one.qcow2'), 'write -P 9 1000 70000', 'write -P 8 2M 1M', 'write -z 1536k 4k', 'discard 10M 1M')
  await createOverlay(at('two.qcow2'), { path: at('one.qcow2'), format: 'qcow2' }, { tracked: true })
  await io(at('two.qcow2'), 'write -P 7 2100k 5k', 'write -P 6 20M 4k', 'discard 2560k 512k')
  expect(await readHash(at('one.qcow2'))).toBe(await hashOf(at('one.qcow2')))
  expect(await readHash(at('two.qcow2'))).toBe(await hashOf(at('two.qcow2')))
  await using two = await openLayers(at('two.qcow2'), 'qcow2')
  expect((await two.written(BLOCK_BYTES)).map(({ index, zeros }) => (zeros ? -index : index))).toEqual([4, -5, 40])
  expect(two.bytes).toBe(BYTES)
  expect((await two.read(BYTES - 10, 100)).subarray(10)).toEqual(Buffer.alloc(90))
})

test('an overlay of small clusters, as others make them, reads right too', async () => {
  await createOverlay(at('one.qcow2'), { path: at('base.raw'), format: 'raw' })
  await io(at('one.qcow2'), 'write -P 9 1000 70000', 'discard 1536k 64k')
  expect(await readHash(at('one.qcow2'))).toBe(await hashOf(at('one.qcow2')))
})

test('only blocks whose content differs count as changed, zeros as well', async () => {
  const reader = hashReader()
  await copyDisk({ path: at('base.raw'), format: 'raw' }, at('copy.raw'), { size: BLOCK_BYTES, onPiece: reader.take, signal })
  const before = reader.end(BYTES)
  expect((await readFile(at('copy.raw'))).equals(await readFile(at('base.raw')))).toBe(true)
  await createOverlay(at('one.qcow2'), { path: at('copy.raw'), format: 'raw' }, { tracked: true })
  // The same again, zeros where zeros were, zeros where something was, something new.
  await io(at('one.qcow2'), 'write -P 1 0 4k', 'discard 4M 512k', 'discard 1536k 512k', 'write -P 3 5M 1k')
  await using one = await openLayers(at('one.qcow2'), 'qcow2')
  expect((await one.written(BLOCK_BYTES)).map(({ index }) => index)).toEqual([0, 3, 8, 10])
  const { indexes, hashes } = await compareBlocks(one, before)
  expect(indexes).toEqual([3, 10])
  expect(await damagedBlock(one, hashes)).toBeUndefined()
  expect(await damagedBlock(one, before)).toBe(3)
})

test('a parent that isn’t what was recorded is found when a block of it changes', async () => {
  const reader = hashReader()
  await copyDisk({ path: at('base.raw'), format: 'raw' }, at('copy.raw'), { size: BLOCK_BYTES, onPiece: reader.take, signal })
  await createOverlay(at('one.qcow2'), { path: at('copy.raw'), format: 'raw' }, { tracked: true })
  await io(at('one.qcow2'), 'write -P 1 1536k 4k')
  await using file = await open(at('copy.raw'), 'r+')
  await file.write(Buffer.from('x'), 0, 1, 3 * BLOCK_BYTES + 100_000)
  await using one = await openLayers(at('one.qcow2'), 'qcow2')
  await expect(compareBlocks(one, reader.end(BYTES))).rejects.toThrow(DamagedDisk)
})

test('a qcow2 base is copied as a raw one', async () => {
  await convertImage({ path: at('base.raw'), format: 'raw' }, { path: at('base.qcow2'), format: 'qcow2' }, { compress: true })
  const reader = hashReader()
  await copyDisk({ path: at('base.qcow2'), format: 'qcow2' }, at('copy.raw'), { size: BLOCK_BYTES, onPiece: reader.take, signal })
  expect((await readFile(at('copy.raw'))).equals(await readFile(at('base.raw')))).toBe(true)
  await using copy = await openLayers(at('copy.raw'), 'raw')
  expect(await damagedBlock(copy, reader.end(BYTES))).toBeUndefined()
})

test('an overlay can name its backing file from where it lies, in the old name’s place or a longer one', async () => {
  await createOverlay(at('one.qcow2'), { path: at('base.raw'), format: 'raw' }, { tracked: true })
  await io(at('one.qcow2'), 'write -P 9 1000 70000')
  const before = await hashOf(at('one.qcow2'))
  for (const name of ['base.raw', `./${'./'.repeat(60)}base.raw`]) {
    await rebaseOverlay(at('one.qcow2'), name)
    expect((await run('qemu-img', ['info', at('one.qcow2')])).stdout).toContain(`backing file: ${name}`)
    expect(await backingOf(at('one.qcow2'))).toBe(at('base.raw'))
    expect(await hashOf(at('one.qcow2'))).toBe(before)
  }
  expect(await standsOn(at('one.qcow2'))).toEqual([at('base.raw')])
  await rm(at('base.raw'))
  await expect(standsOn(at('one.qcow2'))).rejects.toMatchObject({ code: 'ENOENT' })
})
