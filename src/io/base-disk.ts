import { createHash } from 'node:crypto'
import { createReadStream, type Stats } from 'node:fs'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type BakeError, errnoOf, messageOf, refused } from '../errors.ts'
import { sha256 } from '../names.ts'
import { type OpenDisk, openDisk, readRaw } from './disk-reader.ts'
import { prepareStateDir, writeAtomic } from './host/state-dir.ts'
import {
  BIOS_BOOT,
  EFI_SYSTEM,
  fileSystemOf,
  freeBytesOf,
  HEAD_BYTES,
  MBR_EFI,
  type Partition,
  type PartitionTable,
  readPartitionTable,
  SIGNATURE_BYTES,
} from './partition-table.ts'
import { imageInfo } from './qemu-img.ts'
import { tool } from './tool.ts'

const inspectedSchema = z.strictObject({
  kind: z.literal('disk'),
  path: z.string(),
  format: z.enum(['raw', 'qcow2']),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  virtualBytes: z.number(),
  /** Of the file system with the most room, which is the root's or the only one. */
  freeBytes: z.number().optional(),
  architecture: z.enum(['amd64', 'arm64']),
  firmware: z.enum(['bios', 'uefi']),
})
export type InspectedDisk = z.infer<typeof inspectedSchema>

/** The file as it was when it was inspected: another one is inspected anew. */
const cacheSchema = z.strictObject({ version: z.literal(1), file: z.string(), disk: inspectedSchema })

const MAKE_ONE = 'bake base makes a bootable Debian disk with Docker (as root)'

/**
 * Looks at a disk that machines start from: format, size, how it boots, for which processor, and its hash, which is remembered in the state directory while
 * the file's path, inode, size and times stay. Whether Docker is on it only the machine can tell. Throws what lookAtDisk throws, disk_changed or
 * disk_has_backing (exit 2).
 */
export async function inspectDisk(path: string, stateDir: string, signal?: AbortSignal): Promise<InspectedDisk> {
  const absolute = resolve(path)
  const before = identity(await statDisk(absolute))
  const cache = join(stateDir, 'disks', `${sha256(absolute).slice(0, 16)}.json`)
  const known = await readCache(cache)
  if (known?.file === before) return known.disk
  const { backing, ...found } = await lookAtDisk(absolute, signal)
  if (backing !== undefined)
    throw refusal(
      'disk_has_backing',
      absolute,
      `holds only the differences to ${backing}`,
      `make it whole: qemu-img convert -O qcow2 ${absolute} whole.qcow2`,
    )
  const disk: InspectedDisk = { kind: 'disk', path: absolute, sha256: await hashFile(absolute, signal), ...found }
  if (identity(await statDisk(absolute)) !== before)
    throw refusal('disk_changed', absolute, 'changed while it was read', 'stop what writes to it, then try again')
  await prepareStateDir(stateDir)
  await mkdir(join(stateDir, 'disks'), { recursive: true })
  await writeAtomic(cache, JSON.stringify({ version: 1, file: before, disk }))
  return disk
}

const identity = ({ ino, size, mtimeMs, ctimeMs }: Stats): string => [ino, size, mtimeMs, ctimeMs].join(':')

async function statDisk(path: string): Promise<Stats> {
  const found = await stat(path).catch((cause: unknown) => {
    if (errnoOf(cause) === 'ENOENT') throw refusal('disk_missing', path, 'does not exist', MAKE_ONE)
    throw refusal('disk_unreadable', path, `can't be read: ${messageOf(cause)}`, 'make it readable for this user', cause)
  })
  if (!found.isFile()) throw refusal('disk_unreadable', path, 'is no file', 'name the file of a raw or qcow2 disk')
  if (found.size < HEAD_BYTES)
    throw refusal('disk_not_bootable', path, `has ${found.size} bytes, too few for a boot loader`, MAKE_ONE)
  return found
}

async function readCache(path: string): Promise<z.infer<typeof cacheSchema> | undefined> {
  try {
    return cacheSchema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return undefined
  }
}

async function hashFile(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 4 << 20, ...(signal && { signal }) })) hash.update(chunk)
  return hash.digest('hex')
}

export interface DiskLook extends Omit<InspectedDisk, 'kind' | 'path' | 'sha256'> {
  /** The file that this one only holds the differences to. */
  backing?: string
}

/**
 * What a disk file tells without being mounted or read as a whole. Throws disk_missing, disk_unreadable, disk_format_unknown or disk_not_bootable
 * (exit 2), tool_missing (exit 4).
 */
export async function lookAtDisk(path: string, signal?: AbortSignal): Promise<DiskLook> {
  await statDisk(path)
  const packed = packing(await readRaw(path, 0, 6))
  if (packed) throw refusal('disk_format_unknown', path, `is compressed with ${packed}`, `unpack it first (${packed} -d)`)
  const { format, virtualBytes, backing } = await imageInfo(path, signal)
  if (format !== 'raw' && format !== 'qcow2')
    throw refusal(
      'disk_format_unknown',
      path,
      `is a ${format} disk; raw and qcow2 are taken`,
      `qemu-img convert -O qcow2 ${path} disk.qcow2`,
    )
  await using disk = await openDisk({ path, format }, virtualBytes, signal)
  const { firmware, partition, freeBytes } = await bootOf(path, disk)
  const architecture = firmware === 'bios' ? 'amd64' : await architectureOf(path, disk, partition)
  return {
    format,
    virtualBytes,
    ...(freeBytes !== undefined && { freeBytes }),
    architecture,
    firmware,
    ...(backing !== undefined && { backing }),
  }
}

type Boot = ({ firmware: 'bios'; partition?: undefined } | { firmware: 'uefi'; partition: Partition }) & { freeBytes?: number }

/** BIOS when the disk takes both: it needs no firmware of its own here. */
async function bootOf(path: string, disk: OpenDisk): Promise<Boot> {
  const table = readPartitionTable(await disk.read(0, HEAD_BYTES))
  if (!table) throw notBootable(path, await withoutTable(disk))
  const starts = await Promise.all(table.partitions.map(({ offset }) => disk.read(offset, SIGNATURE_BYTES)))
  if (starts.every((start) => fileSystemOf(start) === undefined))
    throw notBootable(path, 'none of its partitions holds a file system')
  const free = starts.flatMap((start) => freeBytesOf(start) ?? [])
  const more = free.length === 0 ? {} : { freeBytes: Math.max(...free) }
  if (bootsByBios(table)) return { firmware: 'bios', ...more }
  const partition = table.partitions.find(({ type }) => type === EFI_SYSTEM || type === MBR_EFI)
  if (partition) return { firmware: 'uefi', partition, ...more }
  throw notBootable(path, 'it has partitions, but neither a boot loader nor an EFI system partition')
}

const bootsByBios = ({ scheme, bootCode, partitions }: PartitionTable): boolean =>
  bootCode && partitions.some(({ type, active }) => (scheme === 'gpt' ? type === BIOS_BOOT : active))

async function withoutTable(disk: OpenDisk): Promise<string> {
  const start = await disk.read(0, SIGNATURE_BYTES)
  if (start.toString('latin1', 32_769, 32_774) === 'CD001') return 'it is a CD image (ISO 9660), not an installed disk'
  const system = fileSystemOf(start)
  return system === undefined
    ? 'no boot signature in its first sector'
    : `it is a bare ${system} file system without a boot loader`
}

/** What a UEFI would run tells the processor (UEFI specification, 3.5.1.1): BOOTX64.EFI, grubaa64.efi. */
async function architectureOf(path: string, disk: OpenDisk, partition: Partition): Promise<'amd64' | 'arm64'> {
  const file = await disk.file(partition)
  const list = await tool('mdir', ['-/', '-b', '-i', `${file.path}@@${file.offset}`, '::'], { env: { MTOOLS_SKIP_CHECK: '1' } })
  if (/x64\.efi\s*$/im.test(list)) return 'amd64'
  if (/aa64\.efi\s*$/im.test(list)) return 'arm64'
  throw notBootable(path, 'its EFI system partition has no program for amd64 or arm64')
}

const MAGIC: [string, string][] = [
  ['1f8b', 'gzip'],
  ['fd377a585a00', 'xz'],
  ['28b52ffd', 'zstd'],
  ['425a68', 'bzip2'],
  ['504b0304', 'unzip'],
]
const packing = (start: Buffer): string | undefined => MAGIC.find(([magic]) => start.toString('hex').startsWith(magic))?.[1]

const notBootable = (path: string, why: string): BakeError =>
  refusal('disk_not_bootable', path, `is not a bootable disk: ${why}`, `${MAKE_ONE}, or take a cloud image with Docker`)

const refusal = (code: string, path: string, what: string, next: string, cause?: unknown): BakeError =>
  refused(code, `the disk ${path} ${what}`, { next, ids: { disk: path }, ...(cause !== undefined && { cause }) })
