import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, open, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inspectDisk, lookAtDisk } from '../../src/io/base-disk.ts'
import { BIOS_BOOT, EFI_SYSTEM } from '../../src/io/partition-table.ts'
import { sha256 } from '../../src/names.ts'
import { type MadeDisk, MIB, makeDisk } from '../support/disk-maker.ts'

const run = promisify(execFile)
const LINUX_ROOT = '4f68bce3-e8cd-4db1-96e7-fbcaf984b709'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-disk-test-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const root = { type: 0x83, startMib: 1, sizeMib: 40, fileSystem: 'ext4' } as const
const efi = (name: string) => ({ type: EFI_SYSTEM, startMib: 1, sizeMib: 16, fileSystem: { vfat: { [name]: 'MZ' } } })
const gptRoot = { type: LINUX_ROOT, startMib: 20, sizeMib: 40, fileSystem: 'ext4' } as const
const BIOS: MadeDisk = { scheme: 'mbr', bootCode: true, partitions: [{ ...root, active: true }] }

describe('lookAtDisk', () => {
  test.each<[string, MadeDisk, object]>([
    ['an MBR disk with an active partition', BIOS, { firmware: 'bios', architecture: 'amd64' }],
    [
      'a GPT disk with a BIOS boot partition and an EFI one',
      {
        scheme: 'gpt',
        bootCode: true,
        partitions: [efi('EFI/BOOT/BOOTX64.EFI'), { type: BIOS_BOOT, startMib: 18, sizeMib: 1 }, gptRoot],
      },
      { firmware: 'bios', architecture: 'amd64' },
    ],
    [
      'an EFI disk for amd64',
      { scheme: 'gpt', partitions: [efi('EFI/BOOT/BOOTX64.EFI'), gptRoot] },
      { firmware: 'uefi', architecture: 'amd64' },
    ],
    [
      'an EFI disk for arm64 without the default name',
      { scheme: 'gpt', partitions: [efi('EFI/debian/shimaa64.efi'), gptRoot] },
      { firmware: 'uefi', architecture: 'arm64' },
    ],
  ])('knows %s', async (name, made, expected) => {
    const path = await makeDisk(join(dir, `${sha256(name).slice(0, 8)}.raw`), made)
    expect(await lookAtDisk(path)).toMatchObject({ format: 'raw', virtualBytes: 64 * MIB, ...expected })
    const packed = path.replace('.raw', '.qcow2')
    await run('qemu-img', ['convert', '-c', '-O', 'qcow2', path, packed])
    expect(await lookAtDisk(packed)).toMatchObject({ format: 'qcow2', virtualBytes: 64 * MIB, ...expected })
  })

  test('knows what the file system has free', async () => {
    const path = await makeDisk(join(dir, 'free.raw'), BIOS)
    const { freeBytes = 0 } = await lookAtDisk(path)
    expect(freeBytes / MIB).toBeGreaterThan(20)
    expect(freeBytes / MIB).toBeLessThan(40)
  })

  test('knows that of xfs and btrfs too', async () => {
    const xfs = await makeDisk(
      join(dir, 'xfs.raw'),
      { ...BIOS, partitions: [{ ...root, active: true, sizeMib: 310, fileSystem: 'xfs' }] },
      320,
    )
    const { freeBytes = 0 } = await lookAtDisk(xfs)
    expect(freeBytes / MIB).toBeGreaterThan(200)
    expect(freeBytes / MIB).toBeLessThan(310)

    const btrfs = await makeDisk(
      join(dir, 'btrfs.raw'),
      { ...BIOS, partitions: [{ type: 0x83, active: true, startMib: 1, sizeMib: 200 }] },
      256,
    )
    const superblock = Buffer.alloc(128)
    superblock.write('_BHRfS_M', 0x40)
    superblock.writeBigUInt64LE(BigInt(200 * MIB), 0x70)
    superblock.writeBigUInt64LE(BigInt(50 * MIB), 0x78)
    await using file = await open(btrfs, 'r+')
    await file.write(superblock, 0, superblock.length, MIB + 0x10000)
    expect(await lookAtDisk(btrfs)).toMatchObject({ freeBytes: 150 * MIB })
  })

  test.each<[string, MadeDisk | Buffer, string, RegExp]>([
    ['an empty disk', { scheme: 'none' }, 'disk_not_bootable', /no boot signature in its first sector/],
    ['no boot loader', { scheme: 'mbr', partitions: [root] }, 'disk_not_bootable', /neither a boot loader nor an EFI/],
    [
      'no active partition',
      { scheme: 'mbr', bootCode: true, partitions: [root] },
      'disk_not_bootable',
      /neither a boot loader nor an EFI/,
    ],
    [
      'partitions without file systems',
      { scheme: 'mbr', bootCode: true, partitions: [{ type: 0x83, active: true, startMib: 1, sizeMib: 8 }] },
      'disk_not_bootable',
      /none of its partitions holds a file system/,
    ],
    [
      "an EFI partition of another processor's",
      { scheme: 'gpt', partitions: [efi('EFI/BOOT/BOOTRISCV64.EFI'), gptRoot] },
      'disk_not_bootable',
      /no program for amd64 or arm64/,
    ],
    [
      'a compressed disk',
      Buffer.concat([Buffer.from('fd377a585a000004', 'hex'), Buffer.alloc(MIB)]),
      'disk_format_unknown',
      /xz/,
    ],
    ['a text', Buffer.from('not a disk'), 'disk_not_bootable', /has 10 bytes/],
    ['zeros', Buffer.alloc(MIB), 'disk_not_bootable', /no boot signature/],
  ])('refuses %s', async (name, made, code, message) => {
    const path = join(dir, `bad-${sha256(name).slice(0, 8)}`)
    if (Buffer.isBuffer(made)) await writeFile(path, made)
    else await makeDisk(path, made)
    await expect(lookAtDisk(path)).rejects.toMatchObject({ code, exit: 2, message: expect.stringMatching(message) })
  })

  test('refuses a bare file system, a CD image and a disk of another program', async () => {
    const bare = join(dir, 'bare.raw')
    await writeFile(bare, '')
    await truncate(bare, 16 * MIB)
    await run('mkfs.ext4', ['-q', '-F', bare], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } })
    await expect(lookAtDisk(bare)).rejects.toMatchObject({ message: expect.stringMatching(/a bare ext4 file system/) })

    const iso = Buffer.alloc(MIB)
    iso.write('CD001', 32_769)
    await writeFile(join(dir, 'cd.iso'), iso)
    await expect(lookAtDisk(join(dir, 'cd.iso'))).rejects.toMatchObject({ message: expect.stringMatching(/CD image/) })

    const vmdk = join(dir, 'disk.vmdk')
    await run('qemu-img', ['create', '-q', '-f', 'vmdk', vmdk, '16M'])
    await expect(lookAtDisk(vmdk)).rejects.toMatchObject({
      code: 'disk_format_unknown',
      message: expect.stringMatching(/a vmdk disk/),
    })
  })

  test('refuses what is no file', async () => {
    await expect(lookAtDisk(join(dir, 'nowhere.raw'))).rejects.toMatchObject({ code: 'disk_missing', exit: 2 })
    await expect(lookAtDisk(dir)).rejects.toMatchObject({ code: 'disk_unreadable', exit: 2 })
  })
})

describe('inspectDisk', () => {
  test('hashes the file once, and again when it is another one', async () => {
    const state = join(dir, 'state')
    const path = await makeDisk(join(dir, 'hashed.raw'), BIOS)
    const first = await inspectDisk(path, state)
    expect(first).toMatchObject({ kind: 'disk', path, sha256: sha256(await readFile(path)) })
    // What is remembered is believed while the file is the same.
    const remembered = join(state, 'disks', `${sha256(path).slice(0, 16)}.json`)
    const text = await readFile(remembered, 'utf8')
    await writeFile(remembered, text.replace(first.sha256, 'f'.repeat(64)))
    expect((await inspectDisk(path, state)).sha256).toBe('f'.repeat(64))
    await utimes(path, new Date(), new Date(0))
    expect((await inspectDisk(path, state)).sha256).toBe(first.sha256)
    // And a damaged memory is none.
    await writeFile(remembered, '{')
    expect((await inspectDisk(path, state)).sha256).toBe(first.sha256)
  })

  test('refuses a disk that is only the differences to another', async () => {
    await mkdir(join(dir, 'over'))
    const path = await makeDisk(join(dir, 'over', 'below.raw'), BIOS)
    const overlay = join(dir, 'over', 'above.qcow2')
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', path, overlay])
    await expect(inspectDisk(overlay, join(dir, 'state'))).rejects.toMatchObject({ code: 'disk_has_backing', exit: 2 })
    expect(await lookAtDisk(overlay)).toMatchObject({ firmware: 'bios', backing: path })
  })
})
