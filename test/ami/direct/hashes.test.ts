import { expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { compareBlocks, DamagedDisk, hashReader } from '../../../src/ami/direct/hashes.ts'
import type { Layer } from '../../../src/io/disk-layers.ts'

/** A disk of blocks that are each one byte over and over. */
const disk = (bytes: number[], more: Partial<Layer> = {}) =>
  ({
    bytes: bytes.length * BLOCK_BYTES,
    read: async (offset: number, length: number) => Buffer.alloc(length, bytes[offset / BLOCK_BYTES]),
    readInto: async (offset: number, to: Buffer) => void to.fill(bytes[offset / BLOCK_BYTES]!),
    ...more,
  }) as Layer
const hashesOf = (bytes: number[]) => {
  const reader = hashReader()
  for (const [index, byte] of bytes.entries()) reader.take(index, Buffer.alloc(BLOCK_BYTES, byte))
  return reader.end(bytes.length * BLOCK_BYTES)
}
const [before, after] = [
  [1, 2, 3, 4],
  [1, 2, 9, 0],
]
const overlay = disk(after, {
  below: disk(before),
  written: async () => [1, 2, 3].map((index) => ({ index, zeros: after[index] === 0 })),
})

test('of the blocks that were written those count that differ, also when they became zeros', async () => {
  const { indexes, hashes } = await compareBlocks(overlay, hashesOf(before))
  expect(indexes).toEqual([2, 3])
  expect(hashes.equals(hashesOf(after))).toBe(true)
})

test('a parent that isn’t what was recorded is told by its block', async () => {
  await expect(compareBlocks(overlay, hashesOf([1, 2, 7, 4]))).rejects.toThrow(DamagedDisk)
})
