import { execFile } from 'node:child_process'
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { toolEnvironment } from '../../src/io/tool.ts'

const run = promisify(execFile)
const env = { ...toolEnvironment(), MTOOLS_SKIP_CHECK: '1' }
const SECTOR = 512
export const MIB = 1024 ** 2

export interface MadePartition {
  /** MBR: a byte; GPT: a GUID. */
  type: number | string
  active?: boolean
  startMib: number
  sizeMib: number
  fileSystem?: 'ext4' | 'xfs' | { vfat: Record<string, string> }
}

export interface MadeDisk {
  scheme: 'mbr' | 'gpt' | 'none'
  bootCode?: boolean
  partitions?: MadePartition[]
}

/** A small disk as installers leave them: written by hand, so that no root and no partition tool is needed. */
export async function makeDisk(
  path: string,
  { scheme, bootCode = false, partitions = [] }: MadeDisk,
  sizeMib = 64,
): Promise<string> {
  await mkdir(dirname(path), { recursive: true })
  const head = Buffer.alloc(34 * SECTOR)
  if (bootCode) head.write('boot code')
  if (scheme !== 'none') head.writeUInt16LE(0xaa55, 510)
  if (scheme === 'mbr') for (const [i, partition] of partitions.entries()) mbrEntry(head, i, partition)
  if (scheme === 'gpt') {
    mbrEntry(head, 0, { type: 0xee, startMib: 0, sizeMib })
    gpt(head, partitions)
  }
  await writeFile(path, head)
  await truncate(path, sizeMib * MIB)
  for (const { startMib, sizeMib: mib, fileSystem } of partitions) {
    const offset = startMib * MIB
    if (fileSystem === 'ext4') await run('mkfs.ext4', ['-q', '-F', '-E', `offset=${offset}`, path, `${mib}m`], { env })
    else if (fileSystem === 'xfs') await xfs(path, offset, mib)
    else if (fileSystem) await vfat(path, offset, mib, fileSystem.vfat)
  }
  return path
}

/** mkfs.xfs takes no offset. */
async function xfs(path: string, offset: number, mib: number): Promise<void> {
  const alone = `${path}.xfs`
  await truncate(await touched(alone), mib * MIB)
  await run('mkfs.xfs', ['-q', alone], { env })
  await run('dd', [`if=${alone}`, `of=${path}`, 'bs=1M', `seek=${offset / MIB}`, 'conv=notrunc,sparse', 'status=none'])
  await rm(alone)
}

async function touched(path: string): Promise<string> {
  await writeFile(path, '')
  return path
}

async function vfat(path: string, offset: number, mib: number, files: Record<string, string>): Promise<void> {
  await run('mkfs.vfat', ['-S', '512', '--offset', String(offset / SECTOR), path, String(mib * 1024)], { env })
  const image = `${path}@@${offset}`
  for (const [name, text] of Object.entries(files)) {
    const parts = name.split('/').slice(0, -1)
    for (let i = 1; i <= parts.length; i++)
      await run('mmd', ['-i', image, '-D', 's', `::${parts.slice(0, i).join('/')}`], { env }).catch(() => {})
    const copied = run('mcopy', ['-i', image, '-', `::${name}`], { env })
    copied.child.stdin!.end(text)
    await copied
  }
}

function mbrEntry(head: Buffer, index: number, { type, active, startMib, sizeMib }: MadePartition): void {
  const at = 446 + 16 * index
  head.writeUInt8(active ? 0x80 : 0, at)
  head.writeUInt8(Number(type), at + 4)
  head.writeUInt32LE(Math.max(1, (startMib * MIB) / SECTOR), at + 8)
  head.writeUInt32LE((sizeMib * MIB) / SECTOR, at + 12)
}

function gpt(head: Buffer, partitions: MadePartition[]): void {
  head.write('EFI PART', SECTOR, 'latin1')
  head.writeBigUInt64LE(2n, SECTOR + 72)
  head.writeUInt32LE(128, SECTOR + 80)
  head.writeUInt32LE(128, SECTOR + 84)
  partitions.forEach(({ type, startMib, sizeMib }, i) => {
    const at = 2 * SECTOR + 128 * i
    const hex = String(type).replaceAll('-', '')
    const part = (from: number, to: number) => Buffer.from(hex.slice(2 * from, 2 * to), 'hex')
    Buffer.concat([part(0, 4).reverse(), part(4, 6).reverse(), part(6, 8).reverse(), part(8, 16)]).copy(head, at)
    head.writeBigUInt64LE(BigInt((startMib * MIB) / SECTOR), at + 32)
    head.writeBigUInt64LE(BigInt(((startMib + sizeMib) * MIB) / SECTOR - 1), at + 40)
  })
}
