import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashReader } from '../../../src/ami/direct/hashes.ts'
import { copyBase, type LineageId, promote } from '../../../src/ami/direct/lineage.ts'
import { spareLineages, underDisks } from '../../../src/ami/prune-lineages.ts'
import { createOverlay } from '../../../src/io/qemu-img.ts'
import { newBuildId } from '../../../src/names.ts'

const MIB = 1024 ** 2
let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-lineages-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const at = (path: string) => join(dir, path)
const lineage = (base: string): LineageId => ({ base, key: 'k'.repeat(16) })

async function disk(path: string, on: string): Promise<string> {
  await mkdir(dirname(at(path)), { recursive: true })
  await createOverlay(at(path), { path: at(on), format: on.endsWith('.raw') ? 'raw' : 'qcow2' }, { tracked: true })
  return at(path)
}

async function begin(base: string): Promise<void> {
  await copyBase(dir, lineage(base), async (path) => {
    await writeFile(path, Buffer.alloc(MIB))
    return hashReader().end(MIB)
  })
}

const promoted = (base: string, file: string) =>
  promote(
    dir,
    lineage(base),
    {
      ...{ version: 1, generation: 1, file, diskBytes: MIB, firstBlocks: 1, allBlocks: 1, release: 'v1' },
      ...{ build: newBuildId(), snapshots: {} },
    },
    hashReader().end(MIB),
  )
const spare = async (disks: string[]) => (await spareLineages(dir, disks)).map(({ kind, id }) => `${kind} ${id}`).sort()

test('all that a disk stands on is known, one that is gone stands on nothing', async () => {
  await begin('a')
  const one = await disk('machines/1/disk-0.qcow2', 'lineages/a/base.raw')
  const two = await disk('machines/2/disk-0.qcow2', 'machines/1/disk-0.qcow2')
  expect([...(await underDisks([two, at('gone.qcow2')]))]).toEqual([one, at('lineages/a/base.raw')])
})

test('a disk that was fetched stays with its lineage, without a base', async () => {
  const file = `lineages/a/${lineage('a').key}-x.raw`
  await mkdir(at('lineages/a'), { recursive: true })
  await writeFile(at(file), Buffer.alloc(MIB))
  await writeFile(at(`${file}.y.tmp`), 'half')
  await promoted('a', file)
  const one = await disk('bakes/1/disk.qcow2', file)
  expect(await spare([one])).toEqual([`file ${file}.y.tmp`])
  expect(await spare([])).toEqual([`file ${file}.y.tmp`])
})

test('a lineage stays as long as a disk stands on it, and what a killed bake left in it goes', async () => {
  await begin('a')
  await begin('b')
  const one = await disk('machines/1/disk-0.qcow2', 'lineages/a/base.raw')
  await promoted('a', 'machines/1/disk-0.qcow2')
  await writeFile(at('lineages/a/base.raw.99-x.tmp'), 'half')
  expect(await spare([one])).toEqual(['file lineages/a/base.raw.99-x.tmp', 'lineage lineages/b'])
  expect(await spare([])).toEqual(['lineage lineages/a', 'lineage lineages/b'])
  for (const item of await spareLineages(dir, [one])) expect(await item.remove()).toBe(true)
  expect(await spare([one])).toEqual([])
})

test('disks that are kept in a lineage itself stay while they are the last or under it', async () => {
  await begin('a')
  await disk('lineages/a/one.qcow2', 'lineages/a/base.raw')
  await disk('lineages/a/two.qcow2', 'lineages/a/one.qcow2')
  await disk('lineages/a/other.qcow2', 'lineages/a/base.raw')
  await promoted('a', 'lineages/a/two.qcow2')
  expect(await spare([])).toEqual(['file lineages/a/other.qcow2'])
})
