import { cp, mkdir, mkdtemp, realpath, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { loadPorts } from '../../../src/io/host/ports.ts'
import { prepareStateDir } from '../../../src/io/host/state-dir.ts'

let dir: string
beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'bake-ports-')))
  await mkdir(join(dir, 'a'))
})
afterEach(() => rm(dir, { recursive: true }))

const load = async (name: string) => loadPorts(await prepareStateDir(join(dir, name, '.bake')), join(dir, name))

it('chooses two ports below the range of outgoing connections, once', async () => {
  const ports = await load('a')
  expect(new Set(Object.values(ports)).size).toBe(2)
  for (const port of Object.values(ports)) {
    expect(port).toBeGreaterThanOrEqual(20_000)
    expect(port).toBeLessThan(32_768)
  }
  expect(await load('a')).toEqual(ports)
})

it('keeps them when the project moves', async () => {
  const ports = await load('a')
  await rename(join(dir, 'a'), join(dir, 'b'))
  expect(await load('b')).toEqual(ports)
  expect(await load('b')).toEqual(ports)
})

it('chooses others for a copy of the project, and leaves the original its own', async () => {
  const ports = await load('a')
  await cp(join(dir, 'a'), join(dir, 'b'), { recursive: true })
  const copied = await load('b')
  expect(copied).not.toEqual(ports)
  expect(await load('b')).toEqual(copied)
  expect(await load('a')).toEqual(ports)
})

it('refuses a second project on one state directory, until the first is gone', async () => {
  await mkdir(join(dir, 'b'))
  const files = await prepareStateDir(join(dir, 'state'))
  const ports = await loadPorts(files, join(dir, 'a'))
  await expect(loadPorts(files, join(dir, 'b'))).rejects.toMatchObject({
    code: 'state_dir_in_use',
    exit: 2,
    ids: { project: join(dir, 'a') },
  })
  await rm(join(dir, 'a'), { recursive: true })
  expect(await loadPorts(files, join(dir, 'b'))).toEqual(ports)
})
