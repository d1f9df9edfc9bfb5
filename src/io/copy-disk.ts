import { open } from 'node:fs/promises'
import { z } from 'zod'
import { openLayers } from './disk-layers.ts'
import { type Backing, convertImage } from './qemu-img.ts'
import { tool } from './tool.ts'

/** `qemu-img map --output=json` (QEMU, docs/tools/qemu-img.rst), as far as it is used. */
const mapSchema = z.array(z.object({ start: z.number(), length: z.number(), zero: z.boolean() }))

/** Pieces of `size` bytes of a raw file that aren't holes, ascending: whatever is in the others, reads as zeros. */
async function piecesWithData(path: string, size: number, signal?: AbortSignal): Promise<number[]> {
  const map = mapSchema.parse(JSON.parse(await tool('qemu-img', ['map', '-f', 'raw', '--output=json', '--', path], { signal })))
  const found = new Set<number>()
  for (const { start, length, zero } of map)
    if (!zero) for (let n = Math.floor(start / size); n * size < start + length; n++) found.add(n)
  return [...found].sort((a, b) => a - b)
}

/**
 * Writes all that a disk holds to the raw file `to`, without its holes; `onPiece` sees each piece of `size` bytes that isn't one, filled up with zeros at the
 * disk's end.
 */
export async function copyDisk(from: Backing, to: string, { size, onPiece, signal }: PieceReader): Promise<void> {
  if (from.format !== 'raw') await convertImage(from, { path: to, format: 'raw' }, { signal })
  await using disk = await openLayers(from.format === 'raw' ? from.path : to, 'raw')
  await using file = await open(to, from.format === 'raw' ? 'wx' : 'r+')
  if (from.format === 'raw') await file.truncate(disk.bytes)
  for (const index of await piecesWithData(from.format === 'raw' ? from.path : to, size, signal)) {
    signal.throwIfAborted()
    const piece = await disk.read(index * size, size)
    onPiece(index, piece)
    if (from.format === 'raw') await file.write(piece, 0, Math.min(size, disk.bytes - index * size), index * size)
  }
  await file.datasync()
}

interface PieceReader {
  size: number
  onPiece(index: number, piece: Buffer): void
  signal: AbortSignal
}
