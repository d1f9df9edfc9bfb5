import { type FileHandle, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { HEADER_BYTES, type Qcow2Header, readQcow2Header } from '../qcow2.ts'

/**
 * A disk file and those below it, read without QEMU: raw, or qcow2 as `createOverlay` makes it, neither compressed nor encrypted. Nobody may write to it.
 */
export interface Layer extends AsyncDisposable {
  /** Of the whole disk. */
  bytes: number
  /** Exactly `length` bytes; zeros past its end. */
  read(offset: number, length: number): Promise<Buffer>
  /** The same into `to`, all of it, for whoever reads much. */
  readInto(offset: number, to: Buffer): Promise<void>
  /** Of pieces of `size` bytes, a multiple or a part of a cluster, those that this file tells something of: ascending. Of a raw file all. */
  written(size: number): Promise<Written[]>
  /** What it holds only the differences to. */
  below?: Layer
}

export interface Written {
  index: number
  /** It tells that all of the piece is zeros, without having any. */
  zeros: boolean
}

/** Offsets in L1 and L2 entries: bits 9 to 55. */
const OFFSET = 0x00fffffffffffe00n
const COMPRESSED = 1n << 62n
const ALL_ZERO = 1n
const PARTS = 32

/** Throws ENOENT, or an error for a format that it doesn't read. */
export async function openLayers(path: string, format: 'raw' | 'qcow2'): Promise<Layer> {
  const file = await open(path)
  try {
    if (format === 'raw') return rawLayer(file, (await file.stat()).size)
    const header = readQcow2Header(await readAt(file, 0, HEADER_BYTES))
    if (!header) throw new Error(`${path} is no qcow2 file that can be read here`)
    const below = await openBelow(path, header)
    return qcow2Layer(file, path, header, below)
  } catch (error) {
    await file.close()
    throw error
  }
}

async function openBelow(path: string, { backing, backingFormat }: Qcow2Header): Promise<Layer | undefined> {
  if (backing === undefined) return undefined
  if (backingFormat !== 'raw' && backingFormat !== 'qcow2') throw new Error(`${path} doesn't say what its backing file is`)
  return openLayers(resolve(dirname(path), backing), backingFormat)
}

const rawLayer = (file: FileHandle, bytes: number): Layer => ({
  bytes,
  read: (offset, length) => readAt(file, offset, length),
  readInto: (offset, to) => fill(to, file, offset),
  written: async (size) => [...Array(Math.ceil(bytes / size)).keys()].map((index) => ({ index, zeros: false })),
  [Symbol.asyncDispose]: () => file.close(),
})

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  await fill(buffer, file, offset)
  return buffer
}

/** Zeros from the file's end on. */
async function fill(buffer: Buffer, file: FileHandle, offset: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, offset + done)
    if (bytesRead === 0) return void buffer.fill(0, done)
    done += bytesRead
  }
}

function qcow2Layer(file: FileHandle, path: string, header: Qcow2Header, below: Layer | undefined): Layer {
  const { clusterBytes, virtualBytes, l1, extendedL2 } = header
  const entryBytes = extendedL2 ? 16 : 8
  const perTable = clusterBytes / entryBytes
  const parts = extendedL2 ? PARTS : 1
  const partBytes = clusterBytes / parts
  let l1Table: Buffer | undefined
  /** By index in L1; null: everything that it would tell of is the layer's below. */
  const tables: (Buffer | null)[] = []
  /** Reads the tables that tell of these bytes, unless they were. */
  async function load(from: number, to: number): Promise<void> {
    l1Table ??= await readAt(file, l1.offset, l1.entries * 8)
    const tableBytes = perTable * clusterBytes
    for (let index = Math.floor(from / tableBytes); index * tableBytes < to; index++) {
      if (tables[index] !== undefined) continue
      const at = index < l1.entries ? Number(l1Table.readBigUInt64BE(index * 8) & OFFSET) : 0
      const entries = Math.min(perTable, Math.ceil((virtualBytes - index * tableBytes) / clusterBytes))
      tables[index] = at === 0 ? null : await readAt(file, at, entries * entryBytes)
    }
  }
  /** What the file tells of one part of a cluster: where it is, that it is zeros, or nothing. */
  function part(number: number): number | 'zeros' | undefined {
    const cluster = Math.floor(number / parts)
    const table = tables[Math.floor(cluster / perTable)]
    if (!table) return undefined
    const at = (cluster % perTable) * entryBytes
    const entry = table.readBigUInt64BE(at)
    if ((entry & COMPRESSED) !== 0n) throw new Error(`${path} is compressed`)
    const data = Number(entry & OFFSET)
    if (!extendedL2) return (entry & ALL_ZERO) !== 0n ? 'zeros' : data === 0 ? undefined : data
    const [zeros, there] = [table.readUInt32BE(at + 8), table.readUInt32BE(at + 12)]
    const index = number % parts
    if (((zeros >>> index) & 1) === 1) return 'zeros'
    return ((there >>> index) & 1) === 0 ? undefined : data + index * partBytes
  }
  async function readInto(offset: number, to: Buffer): Promise<void> {
    const end = Math.min(offset + to.length, virtualBytes)
    await load(offset, end)
    for (let at = offset; at < end; ) {
      const start = Math.floor(at / partBytes)
      const first = part(start)
      let next = start + 1
      // What lies together is read at once.
      while (next * partBytes < end && follows(first, part(next), (next - start) * partBytes)) next++
      const past = Math.min(next * partBytes, end)
      const piece = to.subarray(at - offset, past - offset)
      if (typeof first === 'number') await fill(piece, file, first + at - start * partBytes)
      else if (first === undefined && below) await below.readInto(at, piece)
      else piece.fill(0)
      at = past
    }
    to.fill(0, Math.max(0, end - offset))
  }
  return {
    bytes: virtualBytes,
    async read(offset, length) {
      const whole = Buffer.allocUnsafe(length)
      await readInto(offset, whole)
      return whole
    },
    readInto,
    async written(size) {
      await load(0, virtualBytes)
      const found: Written[] = []
      const tableBytes = perTable * clusterBytes
      const step = Math.min(size, partBytes)
      for (let index = 0; index * size < virtualBytes; index++) {
        const [from, to] = [index * size, Math.min((index + 1) * size, virtualBytes)]
        if (!tables[Math.floor(from / tableBytes)] && !tables[Math.floor((to - 1) / tableBytes)]) continue
        let [some, zeros] = [false, true]
        for (let at = from; at < to; at += step) {
          const what = part(Math.floor(at / partBytes))
          some ||= what !== undefined
          zeros &&= what === 'zeros'
        }
        if (some) found.push({ index, zeros })
      }
      return found
    },
    ...(below && { below }),
    async [Symbol.asyncDispose]() {
      await file.close()
      await below?.[Symbol.asyncDispose]()
    },
  }
}

const follows = (first: number | 'zeros' | undefined, next: typeof first, distance: number): boolean =>
  typeof first === 'number' ? next === first + distance : next === first
