import { execFile } from 'node:child_process'
import { open, rm } from 'node:fs/promises'
import { promisify } from 'node:util'
import { piecesWithData } from '../../src/io/copy-disk.ts'
import { convertImage } from '../../src/io/qemu-img.ts'
import { toolEnvironment } from '../../src/io/tool.ts'

const run = promisify(execFile)
const env = toolEnvironment()
/** Where `bake base` begins its one partition. */
const OFFSET = 1_048_576
const PIECE = 4 * 1024 ** 2

/** A disk that `bake base` began, as QEMU reads it, without mounting it. */
export interface DiskContent extends AsyncDisposable {
  /** A file of the root file system. Throws what debugfs says when it isn't there. */
  file(path: string): Promise<string>
  /** Bytes of the file system that something is in. */
  used(): Promise<number>
  /** Where these bytes are on the disk, in files or not; they lie within 4 MiB pieces. */
  find(needle: Buffer): Promise<number[]>
  read(offset: number, length: number): Promise<Buffer>
}

/** Writes what a qcow2 file and all below it hold to `flat`, which is removed in the end. Throws when e2fsck finds anything wrong. */
export async function diskContent(path: string, flat: string): Promise<DiskContent> {
  await convertImage({ path, format: 'qcow2' }, { path: flat, format: 'raw' })
  const device = `${flat}?offset=${OFFSET}`
  const file = await open(flat)
  const close = async () => {
    await file.close()
    await rm(flat)
  }
  const read = async (offset: number, length: number) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
    return buffer.subarray(0, bytesRead)
  }
  try {
    await run('e2fsck', ['-fn', device], { env })
  } catch (error) {
    await close()
    throw error
  }
  return {
    read,
    file: async (name) => (await run('debugfs', ['-R', `cat ${name}`, device], { env })).stdout,
    async used() {
      const { stdout } = await run('dumpe2fs', ['-h', device], { env })
      const number = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)$`, 'm').exec(stdout)![1])
      return (number('Block count') - number('Free blocks')) * number('Block size')
    },
    async find(needle) {
      const found: number[] = []
      for (const piece of await piecesWithData(flat, PIECE)) {
        const bytes = await read(piece * PIECE, PIECE)
        for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) found.push(piece * PIECE + at)
      }
      return found
    },
    [Symbol.asyncDispose]: close,
  }
}
