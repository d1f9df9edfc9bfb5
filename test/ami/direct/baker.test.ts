import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type DirectBakerWorld, directDiskBaker } from '../../../src/ami/direct/baker.ts'
import type { Means } from '../../../src/ami/direct/fit.ts'
import type { BakeRun, Baker, MachineEvent, MachinePlan } from '../../../src/ami/machine.ts'
import { refused, unavailable } from '../../../src/errors.ts'
import { disk, plan, service } from '../plan.ts'

let dir: string
let told: MachineEvent[]
let run: BakeRun
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-baker-'))
  told = []
  run = { id: 'ybq9ma3cj-vcdg2c', dir, signal: new AbortController().signal, tell: (event) => void told.push(event) }
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const made = { kind: 'disk', path: '/packer.qcow2', format: 'qcow2', sizeBytes: 1 } as const
const packer = (more: Partial<Baker> = {}): Baker => ({
  name: 'packer',
  prevalidate: async () => {},
  bake: async () => made,
  ...more,
})
const never = async (): Promise<never> => {
  throw new Error('nothing is asked for here')
}
const world = (more: Partial<DirectBakerWorld> & { fit?: Partial<Means> } = {}): DirectBakerWorld => ({
  ...{ stateDir: dir, version: '1', explain: false, layers: never, copyDisk: never, overlay: never, rebase: never },
  ...{ change: never, login: never, fileSystems: never, packer: async () => packer() },
  means: async () => ({ platform: 'linux', architecture: 'amd64', helper: 'root', missing: [], ...more.fit }),
  ...more,
})
const PLAN: MachinePlan = {
  ...plan([service('web')]),
  base: { ...disk, path: '/dev/null' },
  rendered: { files: [], steps: [], proof: '' },
}
const notes = () => told.flatMap((event) => (event.type === 'note' ? [event.text] : []))

test('a machine that isn’t fit has Packer bake, which is said, and the record names Packer', async () => {
  const baker = directDiskBaker(world({ fit: { helper: undefined } }))
  expect(baker.name).toBe('direct')
  await baker.prevalidate(PLAN, run.signal)
  expect(await baker.bake(PLAN, run)).toBe(made)
  expect(baker.name).toBe('packer')
  expect(notes()).toEqual([expect.stringMatching(/^Packer bakes, slowly: the disk is mounted by root/)])
  await baker.published?.(made, run)
})

test('so has a disk that isn’t fit, which only its content tells', async () => {
  const layer = { bytes: 0, read: never, readInto: never, written: never, async [Symbol.asyncDispose]() {} }
  const fileSystems = async () => [{ type: 'lvm', offset: 0, length: 1 }]
  const where: string[] = []
  const bake: Baker['bake'] = async (_, { dir: own }) => {
    where.push(own)
    return made
  }
  const baker = directDiskBaker(world({ layers: async () => layer, fileSystems, packer: async () => packer({ bake }) }))
  await baker.prevalidate(PLAN, run.signal)
  expect(await baker.bake(PLAN, run)).toBe(made)
  expect(baker.name).toBe('packer')
  expect(where).toEqual([join(dir, 'packer')])
  expect(notes().at(-1)).toBe("Packer bakes, slowly: the disk can't be changed here: its root file system is in LVM")
})

test('without Packer both reasons are told', async () => {
  const absent = packer({
    available: async () => {
      throw unavailable('tool_missing', 'packer is not installed', { next: 'install it' })
    },
  })
  const baker = directDiskBaker(world({ fit: { missing: ['slirp4netns'] }, packer: async () => absent }))
  await expect(baker.prevalidate(PLAN, run.signal)).rejects.toMatchObject({
    code: 'tool_missing',
    message: expect.stringMatching(/no slirp4netns .*, and Packer can't bake it: packer is not installed/),
    next: 'install it',
  })
})

test('any other failure is none of Packer’s business', async () => {
  const layers = async () => {
    throw refused('disk_changed', 'it changed')
  }
  await expect(directDiskBaker(world({ layers })).bake(PLAN, run)).rejects.toMatchObject({ code: 'disk_changed' })
  expect(notes()).not.toContainEqual(expect.stringContaining('Packer'))
})

test('what is published stays so when nothing can be built upon it', async () => {
  await directDiskBaker(world()).published?.(made, run)
  expect(notes()).toEqual([expect.stringMatching(/^the next bake can't be built upon this one: ENOENT/)])
})
