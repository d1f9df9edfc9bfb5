import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Partition } from './partition-table.ts'
import { type Backing, extract } from './qemu-img.ts'

/** A disk's bytes, whatever its format. */
export interface OpenDisk extends AsyncDisposable {
  read(offset: number, length: number): Promise<Buffer>
  /** The partition in a file, by path and offset. */
  file(partition: Partition): Promise<{ path: string; offset: number }>
}

export async function openDisk(disk: Backing, bytes: number, signal: AbortSignal | undefined): Promise<OpenDisk> {
  const upTo = (offset: number, length: number) => Math.max(0, Math.min(length, bytes - offset))
  if (disk.format === 'raw')
    return {
      read: (offset, length) => readRaw(disk.path, offset, upTo(offset, length)),
      file: async ({ offset }) => ({ path: disk.path, offset }),
      [Symbol.asyncDispose]: async () => {},
    }
  const dir = await mkdtemp(join(tmpdir(), 'bake-disk-'))
  const part = async (offset: number, length: number) => {
    const path = join(dir, `${offset}`)
    await extract(disk, { offset, length: upTo(offset, length) }, path, signal)
    return path
  }
  return {
    read: async (offset, length) => (upTo(offset, length) === 0 ? Buffer.alloc(0) : readFile(await part(offset, length))),
    file: async ({ offset, length }) => ({ path: await part(offset, length), offset: 0 }),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  }
}

/** Fewer bytes than asked for at the file's end. */
export async function readRaw(path: string, offset: number, length: number): Promise<Buffer> {
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
  return buffer.subarray(0, bytesRead)
}
