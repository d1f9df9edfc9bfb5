import type { Layer } from './disk-layers.ts'
import { fileSystemOf, HEAD_BYTES, readPartitionTable, SIGNATURE_BYTES } from './partition-table.ts'

export interface FoundFileSystem {
  /** As fileSystemOf names it; `unknown` for what it doesn't know. */
  type: string
  /** Bytes. */
  offset: number
  length: number
}

/** What is in a disk's partitions, in the table's order; undefined when it has no table. */
export async function fileSystemsOf(disk: Layer): Promise<FoundFileSystem[] | undefined> {
  const table = readPartitionTable(await disk.read(0, HEAD_BYTES))
  if (!table) return undefined
  return Promise.all(
    table.partitions.map(async ({ offset, length }) => ({
      type: fileSystemOf(await disk.read(offset, SIGNATURE_BYTES)) ?? 'unknown',
      offset,
      length: Math.min(length, disk.bytes - offset),
    })),
  )
}
