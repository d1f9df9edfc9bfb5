import { open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/** https://qemu-project.gitlab.io/qemu/interop/qcow2.html: version 3, as qemu-img makes overlays. All numbers are big-endian. */
export interface Qcow2Header {
  clusterBytes: number
  /** What the disk seems to hold to its machine. */
  virtualBytes: number
  l1: { entries: number; offset: number }
  /** Clusters are told of by 32 parts of theirs. */
  extendedL2: boolean
  /** As it is written in the file: absolute, or from the file's directory. */
  backing?: string
  /** Named by qemu-img -F. */
  backingFormat?: string
}

const MAGIC = 0x514649fb
const EXTERNAL_DATA = 1n << 2n
const EXTENDED_L2 = 1n << 4n
const BACKING_FORMAT = 0xe2792aca
/** Header, its extensions and the name of the backing file are in the first cluster, and what qemu-img writes of them in its first bytes. */
export const HEADER_BYTES = 4096

/** What a file's first HEADER_BYTES say; undefined when it is no qcow2 file that can be read without QEMU. */
export function readQcow2Header(head: Buffer): Qcow2Header | undefined {
  if (head.length < 104 || head.readUInt32BE(0) !== MAGIC || head.readUInt32BE(4) !== 3) return undefined
  const features = head.readBigUInt64BE(72)
  const encrypted = head.readUInt32BE(32) !== 0
  if (encrypted || (features & EXTERNAL_DATA) !== 0n) return undefined
  const [nameAt, nameBytes] = [Number(head.readBigUInt64BE(8)), head.readUInt32BE(16)]
  const backing = nameAt === 0 ? undefined : head.toString('utf8', nameAt, nameAt + nameBytes)
  const backingFormat = extension(head, BACKING_FORMAT)?.toString('latin1')
  return {
    clusterBytes: 2 ** head.readUInt32BE(20),
    virtualBytes: Number(head.readBigUInt64BE(24)),
    l1: { entries: head.readUInt32BE(36), offset: Number(head.readBigUInt64BE(40)) },
    extendedL2: (features & EXTENDED_L2) !== 0n,
    ...(backing !== undefined && { backing }),
    ...(backingFormat !== undefined && { backingFormat }),
  }
}

function extension(head: Buffer, wanted: number): Buffer | undefined {
  for (let at = head.readUInt32BE(100); at + 8 <= head.length; ) {
    const [type, length] = [head.readUInt32BE(at), head.readUInt32BE(at + 4)]
    if (type === 0) return undefined
    if (type === wanted) return head.subarray(at + 8, at + 8 + length)
    at += 8 + Math.ceil(length / 8) * 8
  }
  return undefined
}

/** Writes another name of the backing file into a file's first bytes; false when it doesn't fit in the old one's place. */
export function renameBacking(head: Buffer, backing: string): boolean {
  const old = readQcow2Header(head)?.backing
  if (old === undefined || Buffer.byteLength(backing) > Buffer.byteLength(old)) return false
  const at = Number(head.readBigUInt64BE(8))
  head.fill(0, at, at + Buffer.byteLength(old))
  head.writeUInt32BE(head.write(backing, at), 16)
  return true
}

/** The file that a disk file holds only the differences to, absolute; undefined when it stands alone. Throws ENOENT. */
export async function backingOf(path: string): Promise<string | undefined> {
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0)
  const backing = readQcow2Header(buffer.subarray(0, bytesRead))?.backing
  return backing === undefined ? undefined : resolve(dirname(path), backing)
}

/** All files that a disk file stands on, the nearest first. Throws ENOENT when one is missing. */
export async function standsOn(path: string): Promise<string[]> {
  const below: string[] = []
  for (let next = await backingOf(path); next !== undefined && !below.includes(next); next = await backingOf(next))
    below.push(next)
  return below
}
