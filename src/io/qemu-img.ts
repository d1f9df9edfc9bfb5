import { open } from 'node:fs/promises'
import { z } from 'zod'
import { HEADER_BYTES, readQcow2Header, renameBacking } from '../qcow2.ts'
import { tool } from './tool.ts'

/** `qemu-img info --output=json` (QEMU, docs/tools/qemu-img.rst), as far as it is used. */
const infoSchema = z.object({
  format: z.string(),
  'virtual-size': z.number().int().nonnegative(),
  'actual-size': z.number().int().nonnegative().optional(),
  'backing-filename': z.string().optional(),
})

export interface ImageInfo {
  /** As QEMU names it: raw, qcow2, vmdk, vdi, … */
  format: string
  /** What the disk seems to hold to its machine, bytes. */
  virtualBytes: number
  /** What the file takes on this disk. */
  actualBytes: number | undefined
  /** The file that this one only holds the differences to. */
  backing: string | undefined
}

/** Throws tool_missing (exit 4), or tool_failed (exit 3) for what is no file that can be read. */
export async function imageInfo(path: string, signal?: AbortSignal): Promise<ImageInfo> {
  // -U: a machine that runs from it has it locked.
  const info = infoSchema.parse(JSON.parse(await tool('qemu-img', ['info', '-U', '--output=json', '--', path], { signal })))
  return {
    format: info.format,
    virtualBytes: info['virtual-size'],
    actualBytes: info['actual-size'],
    backing: info['backing-filename'],
  }
}

export interface Backing {
  /** Absolute: a relative one would count from the overlay's directory. */
  path: string
  format: 'raw' | 'qcow2'
}

/** Large clusters make tables small; what is written is told of by 32 parts of each, so that a small write copies little (QEMU 5.2). */
const TRACKED = ['-o', 'cluster_size=512k,extended_l2=on']

/**
 * Makes `path`, a qcow2 file that holds only what differs from `backing`; larger than it with `sizeBytes`. `tracked`: as openLayers reads it, for one that
 * others will stand on.
 */
export async function createOverlay(
  path: string,
  backing: Backing,
  options: { sizeBytes?: number; tracked?: boolean; signal?: AbortSignal } = {},
): Promise<void> {
  const size = options.sizeBytes === undefined ? [] : [String(options.sizeBytes)]
  const how = options.tracked ? TRACKED : []
  const args = ['create', '-q', '-f', 'qcow2', ...how, '-F', backing.format, '-b', backing.path, '--', path, ...size]
  await tool('qemu-img', args, { signal: options.signal })
}

/**
 * Names the file that an overlay holds the differences to, from the overlay's directory or absolute; its content must be that of the one before, whose place
 * in the header it takes when it isn't longer.
 */
export async function rebaseOverlay(path: string, backing: string): Promise<void> {
  const format = await renamed(path, backing)
  if (format !== undefined) await tool('qemu-img', ['rebase', '-u', '-f', 'qcow2', '-F', format, '-b', backing, '--', path])
}

/** The format of the file that was named before when that has to be done otherwise. */
async function renamed(path: string, backing: string): Promise<string | undefined> {
  await using file = await open(path, 'r+')
  const { buffer } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0)
  if (!renameBacking(buffer, backing)) return readQcow2Header(buffer)?.backingFormat ?? 'raw'
  await file.write(buffer, 0, HEADER_BYTES, 0)
  return undefined
}

/** Writes all that the disk `from` holds, its backing files included, to a new file. */
export async function convertImage(
  from: Backing,
  to: Backing,
  options: { compress?: boolean; signal?: AbortSignal } = {},
): Promise<void> {
  const compress = options.compress ? ['-c'] : []
  await tool('qemu-img', ['convert', ...compress, '-f', from.format, '-O', to.format, '--', from.path, to.path], {
    signal: options.signal,
  })
}

/** Copies a part of what the disk holds to the raw file `to`. Bytes; offset and length are multiples of 512. */
export async function extract(
  from: Backing,
  { offset, length }: { offset: number; length: number },
  to: string,
  signal?: AbortSignal,
): Promise<void> {
  // A window on the disk: `qemu-img dd` counts its blocks from the start of the disk in some versions, from what is skipped in others.
  const disk = `file.driver=${from.format},file.file.driver=file,file.file.filename=${from.path.replaceAll(',', ',,')}`
  const window = `driver=raw,offset=${offset},size=${length},${disk}`
  await tool('qemu-img', ['convert', '-U', '--image-opts', '-O', 'raw', '--', window, to], { signal })
}
