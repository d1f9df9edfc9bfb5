import { hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { type BakeError, unavailable } from '../../errors.ts'
import type { Ebs, SnapshotBlock } from '../../io/ebs.ts'
import { BLOCK_BYTES } from './blocks.ts'
import { type BlockHashes, blocksOf, hashAt, hashBlock, isZeros, setHash, zeroHashes } from './hashes.ts'
import { Pace } from './pace.ts'
import { patiently } from './patience.ts'

type Reader = Pick<Ebs, 'region' | 'listBlocks' | 'getBlock'>

/** Blocks that are asked for at a time. */
const IN_FLIGHT = 32

/**
 * A snapshot as the sparse raw file `path`, which mustn't be there yet; hashes of its blocks. What the snapshot doesn't have is zeros here: on a volume it is too,
 * unless that is encrypted. Throws block_damaged (exit 4) when a block isn't what EBS's own checksum says.
 */
export async function downloadSnapshot(snapshot: string, path: string, ebs: Reader, signal: AbortSignal): Promise<BlockHashes> {
  const { volumeBytes, blocks } = await ebs.listBlocks(snapshot, signal)
  await using file = await open(path, 'wx')
  await file.truncate(volumeBytes)
  const hashes = zeroHashes(volumeBytes)
  await readBlocks(snapshot, blocks, ebs, signal, async (index, data, digest) => {
    setHash(hashes, index, digest)
    if (!isZeros(digest)) await file.write(data, 0, BLOCK_BYTES, index * BLOCK_BYTES)
  })
  await file.datasync()
  return hashes
}

/** What is told of a snapshot's blocks, written over the file `path`, whose blocks have these hashes: both are as the snapshot is then. */
export async function downloadOver(
  { snapshot, blocks }: { snapshot: string; blocks: { index: number; token?: string }[] },
  { path, hashes }: { path: string; hashes: BlockHashes },
  ebs: Pick<Reader, 'region' | 'getBlock'>,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(path, 'r+')
  const put = async (index: number, data: Buffer, digest: Buffer) => {
    setHash(hashes, index, digest)
    await file.write(data, 0, BLOCK_BYTES, index * BLOCK_BYTES)
  }
  const zeros = Buffer.alloc(BLOCK_BYTES)
  for (const { index, token } of blocks) if (token === undefined) await put(index, zeros, hashBlock(zeros))
  const there = blocks.flatMap(({ index, token }) => (token === undefined ? [] : [{ index, token }]))
  await readBlocks(snapshot, there, ebs, signal, put)
  await file.datasync()
}

/** Reads a snapshot back and compares it with the hashes of the disk that it should hold. Throws readback_differs (exit 4). */
export async function compareSnapshot(
  { id, encrypted }: { id: string; encrypted: boolean },
  hashes: BlockHashes,
  ebs: Reader,
  signal: AbortSignal,
): Promise<void> {
  const { blocks } = await ebs.listBlocks(id, signal)
  const absent = new Set(Array(blocksOf((hashes.length / 32) * BLOCK_BYTES)).keys())
  const differ: number[] = []
  await readBlocks(id, blocks, ebs, signal, async (index, _data, digest) => {
    absent.delete(index)
    // Past the disk's end a volume is larger than it, by less than 1 GiB.
    if (index * 32 >= hashes.length ? !isZeros(digest) : !digest.equals(hashAt(hashes, index))) differ.push(index)
  })
  // What an encrypted volume has where its snapshot has nothing is random.
  for (const index of absent) if (encrypted || !isZeros(hashAt(hashes, index))) differ.push(index)
  if (differ.length > 0) throw differs(id, ebs.region, differ)
}

/** Indexes of blocks that the snapshot has nothing of. */
export async function absentBlocks(snapshot: string, diskBytes: number, ebs: Reader, signal: AbortSignal): Promise<number[]> {
  const { blocks } = await ebs.listBlocks(snapshot, signal)
  const present = new Set(blocks.map(({ index }) => index))
  return [...Array(blocksOf(diskBytes)).keys()].filter((index) => !present.has(index))
}

async function readBlocks(
  snapshot: string,
  blocks: SnapshotBlock[],
  ebs: Pick<Reader, 'region' | 'getBlock'>,
  signal: AbortSignal,
  take: (index: number, data: Buffer, digest: Buffer) => Promise<void>,
): Promise<void> {
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  const now = performance.now()
  const patience = { pace: new Pace(), startedAt: now, wentAt: now, signal: stop }
  let next = 0
  const lane = async () => {
    while (next < blocks.length) {
      const block = blocks[next++]!
      const { data, checksum } = await patiently(() => ebs.getBlock(snapshot, block, stop), patience)
      const digest = hash('sha256', data, 'buffer') as Buffer
      if (digest.toString('base64') !== checksum) throw damaged(snapshot, ebs.region, block.index)
      await take(block.index, data, digest)
    }
  }
  const lanes = Array.from({ length: IN_FLIGHT }, () =>
    lane().catch((error: unknown) => {
      over.abort(error)
      throw error
    }),
  )
  for (const each of await Promise.allSettled(lanes)) if (each.status === 'rejected') throw over.signal.reason
}

const damaged = (snapshot: string, region: string, index: number): BakeError =>
  unavailable('block_damaged', `block ${index} of ${snapshot} in ${region} isn't what its checksum says`, {
    ids: { snapshot, region },
    next: 'bake again',
  })

const differs = (snapshot: string, region: string, blocks: number[]): BakeError =>
  unavailable(
    'readback_differs',
    `${snapshot} in ${region}, read back, differs from the disk in ${blocks.length} blocks: ${blocks.slice(0, 10).join(', ')}`,
    {
      ids: { snapshot, region },
      next: 'bake ami --rebake begins with the base',
    },
  )
