/** A partition as its table tells. Bytes. */
export interface Partition {
  /** MBR: the type in hex, `83`; GPT: the type's GUID in lower case. */
  type: string
  /** MBR: what a BIOS boots. */
  active: boolean
  offset: number
  length: number
}

export interface PartitionTable {
  scheme: 'mbr' | 'gpt'
  /** A BIOS finds code to run in the first sector. */
  bootCode: boolean
  partitions: Partition[]
}

const SECTOR_BYTES = 512
/** The first sector, GPT's header and 128 entries of 128 bytes, and room for a table that starts a bit later. */
export const HEAD_BYTES = 64 * SECTOR_BYTES

const PROTECTIVE = 0xee
/** UEFI specification 2.10, table 5.7, and https://uapi-group.org/specifications/specs/discoverable_partitions_specification/ */
export const EFI_SYSTEM = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b'
export const BIOS_BOOT = '21686148-6449-6e6f-744e-656564454649'
/** MBR's type of an EFI system partition. */
export const MBR_EFI = 'ef'

/** Reads the table in the first 32 KiB of a disk; undefined when there is none (no 0x55AA, or no partition in it). */
export function readPartitionTable(head: Buffer): PartitionTable | undefined {
  if (head.length < SECTOR_BYTES || head.readUInt16LE(510) !== 0xaa55) return undefined
  const bootCode = head.subarray(0, 440).some((byte) => byte !== 0)
  const entries = Array.from({ length: 4 }, (_, i) => mbrEntry(head.subarray(446 + 16 * i, 462 + 16 * i))).filter(isUsed)
  if (entries.some(({ type }) => type === PROTECTIVE.toString(16))) {
    const partitions = gptEntries(head)
    return partitions && { scheme: 'gpt', bootCode, partitions }
  }
  // A file system's own first sector ends with 0x55AA too: what looks like entries there is text.
  const sane = entries.length > 0 && [...Array(4).keys()].every((i) => (head[446 + 16 * i]! & 0x7f) === 0)
  return sane ? { scheme: 'mbr', bootCode, partitions: entries } : undefined
}

const isUsed = ({ type, length }: Partition): boolean => type !== '00' && length > 0

const mbrEntry = (entry: Buffer): Partition => ({
  type: entry.readUInt8(4).toString(16).padStart(2, '0'),
  active: entry.readUInt8(0) === 0x80,
  offset: entry.readUInt32LE(8) * SECTOR_BYTES,
  length: entry.readUInt32LE(12) * SECTOR_BYTES,
})

function gptEntries(head: Buffer): Partition[] | undefined {
  const header = head.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES)
  if (header.length < SECTOR_BYTES || header.toString('latin1', 0, 8) !== 'EFI PART') return undefined
  const start = Number(header.readBigUInt64LE(72)) * SECTOR_BYTES
  const [count, size] = [header.readUInt32LE(80), header.readUInt32LE(84)]
  if (size < 128 || size > 4096) return undefined
  const partitions: Partition[] = []
  for (let at = start; partitions.length < count && at + size <= Math.min(head.length, start + count * size); at += size) {
    const type = guid(head.subarray(at, at + 16))
    if (/^[0-]+$/.test(type)) continue
    const [first, last] = [Number(head.readBigUInt64LE(at + 32)), Number(head.readBigUInt64LE(at + 40))]
    partitions.push({ type, active: false, offset: first * SECTOR_BYTES, length: (last - first + 1) * SECTOR_BYTES })
  }
  return partitions.length === 0 ? undefined : partitions
}

/** The first three fields are little-endian (UEFI specification, appendix A). */
function guid(bytes: Buffer): string {
  const hex = (from: number, to: number) => bytes.subarray(from, to).toString('hex')
  const turned = (from: number, to: number) => Buffer.from(bytes.subarray(from, to)).reverse().toString('hex')
  return [turned(0, 4), turned(4, 6), turned(6, 8), hex(8, 10), hex(10, 16)].join('-')
}

/** Bytes from a partition's start that tell every file system known here: btrfs' superblock is at 64 KiB. */
export const SIGNATURE_BYTES = 66 * 1024

/** The file system that starts with these bytes; undefined for none that a Linux machine starts from. */
export function fileSystemOf(start: Buffer): string | undefined {
  const at = (offset: number, text: string) => start.toString('latin1', offset, offset + text.length) === text
  if (start.length > 1082 && start.readUInt16LE(1080) === 0xef53) return 'ext4'
  if (at(0, 'XFSB')) return 'xfs'
  if (at(0x10040, '_BHRfS_M')) return 'btrfs'
  if (at(536, 'LVM2 001')) return 'lvm'
  if (at(0, 'LUKS')) return 'luks'
  if (at(54, 'FAT') || at(82, 'FAT32')) return 'vfat'
  if (at(0, 'hsqs')) return 'squashfs'
  return undefined
}

/** What the file system that starts with these bytes has free, bytes: as its superblock says, which is right while it isn't mounted. */
export function freeBytesOf(start: Buffer): number | undefined {
  switch (fileSystemOf(start)) {
    case 'ext4': {
      // https://docs.kernel.org/filesystems/ext4/super.html
      const superblock = start.subarray(1024, 2048)
      const is64bit = (superblock.readUInt32LE(0x60) & 0x80) !== 0
      const free = superblock.readUInt32LE(0x0c) + (is64bit ? superblock.readUInt32LE(0x158) * 2 ** 32 : 0)
      return free * 1024 * 2 ** superblock.readUInt32LE(0x18)
    }
    case 'xfs':
      // xfs_format.h, struct xfs_dsb: sb_blocksize, sb_fdblocks
      return start.readUInt32BE(4) * Number(start.readBigUInt64BE(144))
    case 'btrfs':
      // https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#superblock: total_bytes, bytes_used
      return Number(start.readBigUInt64LE(0x10070) - start.readBigUInt64LE(0x10078))
    default:
      return undefined
  }
}
