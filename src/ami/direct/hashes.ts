import { hash } from 'node:crypto'
import type { Layer } from '../../io/disk-layers.ts'
import { sha256 } from '../../names.ts'
import { BLOCK_BYTES, type ChangedBlocks } from './blocks.ts'

export const HASH_BYTES = 32
/** Reads that are under way together: blocks lie all over the disk. */
const AT_ONCE = 8
const ZEROS = Buffer.alloc(BLOCK_BYTES)
const hashOf = (block: Buffer): Buffer => hash('sha256', block, 'buffer') as Buffer
const OF_ZEROS = hashOf(ZEROS)

/** SHA-256 of each block of a disk, one after the other; the last one is filled up with zeros. */
export type BlockHashes = Buffer

export const blocksOf = (diskBytes: number): number => Math.ceil(diskBytes / BLOCK_BYTES)
export const hashBlock = (block: Buffer): Buffer => (block.equals(ZEROS) ? OF_ZEROS : hashOf(block))
/** Of one block. */
export const hashAt = (hashes: BlockHashes, index: number): Buffer => at(hashes, index)
export const isZeros = (digest: Buffer): boolean => digest.equals(OF_ZEROS)
const at = (hashes: BlockHashes, index: number) => hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)

/** Names what a disk holds. */
export const diskId = (hashes: BlockHashes): string => sha256(hashes)

/** Hashes of a disk of zeros. */
export function zeroHashes(diskBytes: number): BlockHashes {
  const hashes = Buffer.alloc(blocksOf(diskBytes) * HASH_BYTES)
  hashes.fill(OF_ZEROS)
  return hashes
}

/** Takes blocks in any order; the others are zeros. */
export function hashReader(): { take(index: number, block: Buffer): void; end(diskBytes: number): BlockHashes } {
  const found = new Map<number, Buffer>()
  return {
    take: (index, block) => void found.set(index, hashBlock(block)),
    end(diskBytes) {
      const hashes = zeroHashes(diskBytes)
      for (const [index, value] of found) setHash(hashes, index, value)
      return hashes
    },
  }
}

export const setHash = (hashes: BlockHashes, index: number, value: Buffer): void => void value.copy(hashes, index * HASH_BYTES)

export interface Compared {
  indexes: number[]
  /** Of the whole disk as it is now. */
  hashes: BlockHashes
}

/** What a disk had isn't what was recorded of it: whatever was written upon it counts for nothing. */
export class DamagedDisk extends Error {
  readonly block: number
  constructor(block: number) {
    super(`block ${block} isn't what was recorded`)
    this.block = block
  }
}

/**
 * Which of the blocks that an overlay tells of differ from its parent's, whose hashes are `before`. What the parent has in their places is checked against
 * those. Throws DamagedDisk.
 */
export async function compareBlocks(overlay: Layer, before: BlockHashes): Promise<Compared> {
  const hashes = Buffer.from(before)
  const told = await overlay.written(BLOCK_BYTES)
  // What is trimmed of free space is most of a disk, and was zeros before.
  const written = told.filter(({ index, zeros }) => !(zeros && at(before, index).equals(OF_ZEROS))).map(({ index }) => index)
  // Used again and again: making them takes as long as reading.
  const room = Array.from({ length: AT_ONCE }, () => [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)] as const)
  const compare = async (index: number, n: number): Promise<boolean> => {
    const [block, old] = room[n]!
    const at = index * BLOCK_BYTES
    await Promise.all([overlay.readInto(at, block), overlay.below!.readInto(at, old)])
    if (!hashBlock(old).equals(hashAt(before, index))) throw new DamagedDisk(index)
    if (block.equals(old)) return false
    setHash(hashes, index, hashBlock(block))
    return true
  }
  const indexes: number[] = []
  for (let from = 0; from < written.length; from += AT_ONCE) {
    const some = written.slice(from, from + AT_ONCE)
    const changed = await Promise.all(some.map(compare))
    indexes.push(...some.filter((_, n) => changed[n]))
  }
  return { indexes, hashes }
}

/** The first block of a disk, from block `from` up to and without `to`, that isn't what was recorded; undefined when all are. */
export async function damagedBlock(
  disk: Layer,
  hashes: BlockHashes,
  from = 0,
  to = blocksOf(disk.bytes),
): Promise<number | undefined> {
  for (let index = from; index < to; index++)
    if (!hashBlock(await disk.read(index * BLOCK_BYTES, BLOCK_BYTES)).equals(at(hashes, index))) return index
  return undefined
}

/** Blocks of a disk, for whoever sends them on. */
export const changedBlocks = (disk: Layer, indexes: number[]): ChangedBlocks => ({
  diskBytes: disk.bytes,
  indexes,
  read: (index) => disk.read(index * BLOCK_BYTES, BLOCK_BYTES),
})
