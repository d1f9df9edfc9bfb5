import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { directDiskBaker } from '../../../src/ami/direct/baker.ts'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { hashReader } from '../../../src/ami/direct/hashes.ts'
import type { BakeRun, MachineEvent, MachinePlan } from '../../../src/ami/machine.ts'
import { changeDisk } from '../../../src/io/change-disk.ts'
import { copyDisk } from '../../../src/io/copy-disk.ts'
import { fileSystemsOf } from '../../../src/io/disk-file-systems.ts'
import { openLayers } from '../../../src/io/disk-layers.ts'
import { createOverlay, rebaseOverlay } from '../../../src/io/qemu-img.ts'
import { toolEnvironment } from '../../../src/io/tool.ts'
import { packageFile } from '../../../src/package-root.ts'
import { bakesDirectly } from '../../support/bakes-directly.ts'
import { type MadeDisk, MIB, makeDisk } from '../../support/disk-maker.ts'
import { leftBehind } from '../../support/left-behind.ts'
import { disk, plan, service } from '../plan.ts'
import { ENGINE, systemDisk } from './system-disk.ts'

const run = promisify(execFile)
let dir: string
let told: MachineEvent[]
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-bases-'))
  told = []
})
afterEach(async () => {
  expect(await leftBehind(dir)).toEqual([])
  await rm(dir, { recursive: true, force: true })
})

const packed = { kind: 'disk', path: '/packer.qcow2', format: 'qcow2', sizeBytes: 1 } as const
/** All of it is real but Packer. */
const baker = () =>
  directDiskBaker({
    ...{ stateDir: join(dir, 'state'), version: '1', explain: false, layers: openLayers, fileSystems: fileSystemsOf },
    means: async () => ({ platform: 'linux', architecture: 'amd64', helper: 'root', missing: [] }),
    async copyDisk(from, to, signal) {
      const reader = hashReader()
      await copyDisk(from, to, { size: BLOCK_BYTES, onPiece: reader.take, signal })
      return reader.end((await stat(to)).size)
    },
    overlay: (path, backing, signal) => createOverlay(path, backing, { tracked: true, signal }),
    rebase: rebaseOverlay,
    change: (change) => changeDisk({ ...change, way: 'root', script: packageFile('templates/direct/helper.sh') }),
    login: async () => undefined,
    packer: async () => ({ name: 'packer', prevalidate: async () => {}, bake: async () => packed }),
  })

const STEPS = ['prepare', 'images', 'install', 'setup', 'rehearse', 'clean', 'scan']
/** Bakes upon a base disk. */
async function bakeUpon(path: string) {
  const it: BakeRun = {
    ...{ id: 'ybq9ma3cj-vcdg2c', dir: join(dir, 'run'), signal: AbortSignal.timeout(120_000) },
    tell: (event) => void told.push(event),
  }
  await mkdir(it.dir)
  const { size } = await stat(path)
  const asked: MachinePlan = {
    ...plan([service('web')]),
    base: { ...disk, path, virtualBytes: size },
    rendered: { files: [], steps: STEPS.map((name) => ({ path: `steps/${name}.sh`, text: 'true\n', mode: 0o755 })), proof: '' },
  }
  return baker().bake(asked, it)
}
/** What is told when Packer bakes. */
async function packerBakes(path: string): Promise<string[]> {
  expect(await bakeUpon(path)).toBe(packed)
  return told.flatMap((event) => (event.type === 'note' ? [event.text] : []))
}
/** What a bake leaves of a base that it can't change: the copy that it began perhaps, whole, and nothing to build upon. */
async function nothingIsLeft(): Promise<void> {
  const files = await readdir(join(dir, 'state'), { recursive: true }).catch(() => [])
  expect(files.filter((name) => /\.(json|tmp|qcow2)$/.test(name))).toEqual([])
}

const BOOT = { type: 0x83, startMib: 1, sizeMib: 16, fileSystem: 'ext4' } as const
const ROOT = { type: 0x83, startMib: 20, sizeMib: 40 }
const written = (text: string, at: number): [Buffer, number] => [Buffer.from(text, 'latin1'), ROOT.startMib * MIB + at]

describe('Packer bakes, which is said, and nothing is left of a base', () => {
  test.each<[string, MadeDisk, [Buffer, number] | undefined, RegExp]>([
    ['on LVM', { scheme: 'mbr', partitions: [BOOT, ROOT] }, written('LABELONE................LVM2 001', 512), /is in LVM$/],
    ['that is encrypted', { scheme: 'mbr', partitions: [BOOT, ROOT] }, written('LUKS\xba\xbe\0\x02', 0), /is in LUKS$/],
    [
      'on btrfs',
      { scheme: 'gpt', partitions: [{ ...ROOT, type: '0fc63daf-8483-4772-8e79-3d69d8477de4' }] },
      written('_BHRfS_M', 0x10040),
      /is in btrfs$/,
    ],
    [
      'on a file system that nobody knows',
      { scheme: 'mbr', partitions: [ROOT] },
      [randomBytes(MIB), ROOT.startMib * MIB],
      /it has no ext4 and no xfs file system$/,
    ],
    ['without partitions', { scheme: 'none' }, undefined, /it has no partition table$/],
  ])('%s', async (_, made, patch, reason) => {
    const path = await makeDisk(join(dir, 'base.raw'), made)
    if (patch) {
      await using file = await open(path, 'r+')
      await file.write(patch[0], 0, patch[0].length, patch[1])
    }
    const notes = await packerBakes(path)
    expect(notes.at(-1)).toMatch(/^Packer bakes, slowly: the disk can't be changed here: /)
    expect(notes.at(-1)).toMatch(reason)
    await nothingIsLeft()
  })

  test.skipIf(!bakesDirectly).each<[string, Record<string, string>, RegExp]>([
    ['without an engine', {}, /it has no Docker Engine$/],
    [
      'whose engine doesn’t start in a chroot',
      { ...ENGINE, 'usr/bin/dockerd': '#!/bin/sh\necho "time=now level=fatal msg=no such thing" >&2; exit 1\n' },
      /its engine doesn't start in a chroot: .*no such thing$/,
    ],
  ])('%s', async (_, files, reason) => {
    const notes = await packerBakes(await systemDisk(dir, files))
    expect(notes.at(-1)).toMatch(/^Packer bakes, slowly: the disk can't be changed here: /)
    expect(notes.at(-1)).toMatch(reason)
    await nothingIsLeft()
  })
})

test.skipIf(!bakesDirectly)(
  'a worker’s disk that gets full while the base is copied is an error that says so, and leaves nothing',
  async () => {
    const path = await systemDisk(dir, ENGINE)
    await using file = await open(path, 'r+')
    // Past the partition's end nothing is looked at; it is copied.
    await file.write(randomBytes(3 * MIB), 0, 3 * MIB, 61 * MIB)
    const state = join(dir, 'state')
    await mkdir(state)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', state], { env: toolEnvironment() })
    try {
      const bake = bakeUpon(path)
      await expect(bake).rejects.toMatchObject({ code: 'disk_full', exit: 4, message: expect.stringContaining(state) })
      expect(await readdir(state, { recursive: true })).toEqual(['lineages', expect.stringMatching(/^lineages\/\w+$/)])
    } finally {
      await run('umount', [state], { env: toolEnvironment() })
    }
  },
)
