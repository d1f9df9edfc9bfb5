import { createHash, randomBytes } from 'node:crypto'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_BYTES, type ChangedBlocks } from '../../../src/ami/direct/blocks.ts'
import type { EbsStore } from '../../support/aws-gaps/ebs-store.ts'

/** A sparse disk file, written by blocks. */
export interface DiskFile extends AsyncDisposable {
  readonly path: string
  readonly bytes: number
  /** Random bytes, or those given. */
  write(index: number, data?: Buffer): Promise<Buffer>
  read(index: number): Promise<Buffer>
  changed(indexes: number[]): ChangedBlocks
}

export async function openDiskFile(bytes: number): Promise<DiskFile> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-disk-file-'))
  const path = join(dir, 'disk.raw')
  const file: FileHandle = await open(path, 'w+')
  await file.truncate(bytes)
  const read = async (index: number) => {
    const block = Buffer.alloc(BLOCK_BYTES)
    await file.read(block, 0, BLOCK_BYTES, index * BLOCK_BYTES)
    return block
  }
  return {
    path,
    bytes,
    read,
    async write(index, data = randomBytes(BLOCK_BYTES)) {
      await file.write(data, 0, Math.min(data.length, bytes - index * BLOCK_BYTES), index * BLOCK_BYTES)
      return read(index)
    },
    changed: (indexes) => ({ diskBytes: bytes, indexes: [...indexes].sort((a, b) => a - b), read }),
    async [Symbol.asyncDispose]() {
      await file.close()
      await rm(dir, { recursive: true })
    },
  }
}

/** Blocks in which the disk differs from what a volume of the snapshot holds, put together by walking from the snapshot to its first ancestor. */
export async function differences(
  store: EbsStore,
  at: { region: string; id: string },
  disk: Pick<DiskFile, 'bytes' | 'read'>,
): Promise<number[]> {
  const snapshot = store.get(at.region, at.id)!
  const hashOf = (index: number): string | undefined => {
    for (let each: typeof snapshot | undefined = snapshot; each !== undefined; ) {
      const written: string | undefined = each.written.get(index)
      if (written !== undefined) return written
      each = each.parent === undefined ? undefined : store.get(at.region, each.parent)
    }
    return undefined
  }
  const found: number[] = []
  for (let index = 0; index < disk.bytes / BLOCK_BYTES; index++) {
    const hash = hashOf(index)
    const volume = hash === undefined ? store.absent(snapshot) : await store.read(hash)
    if (hash !== undefined && createHash('sha256').update(volume).digest('hex') !== hash) throw new Error('a damaged store')
    if (!volume.equals(await disk.read(index))) found.push(index)
  }
  return found
}
