import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { hashReader } from '../../../src/ami/direct/hashes.ts'
import { copyBase, forget, type Head, knownBase, lastDisk, lineageOf, promote } from '../../../src/ami/direct/lineage.ts'
import { newBuildId } from '../../../src/names.ts'
import { disk, plan, service } from '../plan.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-lineage-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const of = (more: Parameters<typeof plan>[1] = {}, version = '1', extra?: string) =>
  lineageOf(plan([service('web')], more), version, extra)
const id = of()
const empty = async (path: string) => {
  await writeFile(path, '')
  return hashReader().end(0)
}
const hashes = hashReader().end(4 * BLOCK_BYTES)
const head = (more: Partial<Head> = {}): Omit<Head, 'hashes'> => ({
  ...{ version: 1, generation: 1, file: 'disk.raw', diskBytes: 4 * BLOCK_BYTES, firstBlocks: 100, allBlocks: 100 },
  ...{ release: 'v1', build: newBuildId(), snapshots: {}, ...more },
})

describe('a lineage', () => {
  test('is told by its base, setup scripts, bake’s version and what else decides', () => {
    expect(of({ setup: [] })).toEqual(id)
    expect(of({ release: { name: 'other', commit: 'd'.repeat(40) }, inputs: 'f'.repeat(64) })).toEqual(id)
    const others = [
      of({ base: { ...disk, sha256: 'a'.repeat(64) } }),
      of({ setup: [{ path: 'a.sh', text: 'true' }] }),
      of({}, '2'),
      of({}, '1', 'key'),
    ]
    expect(new Set([id, ...others].map(({ base, key }) => `${base}/${key}`)).size).toBe(5)
  })

  test('begins with a copy of the base', async () => {
    const copy = async (path: string) => {
      await writeFile(path, Buffer.alloc(4 * BLOCK_BYTES))
      return hashes
    }
    expect(await knownBase(dir, id)).toBeUndefined()
    const first = await copyBase(dir, id, copy)
    expect(first).toMatchObject({ format: 'raw', generation: 0, diskBytes: 4 * BLOCK_BYTES })
    expect(await knownBase(dir, id)).toEqual(first)
    expect((await readdir(join(dir, 'lineages', id.base))).sort()).toEqual(['base.raw', 'base.raw.sha256'])
    await forget(dir, id, 0)
    expect(await readdir(join(dir, 'lineages', id.base))).toEqual([])
  })

  test('goes on with the disk that was promoted last, and keeps the hashes of no other', async () => {
    expect(await lastDisk(dir, id)).toMatchObject({ none: expect.stringContaining('the first of this base') })
    await writeFile(join(dir, 'disk.raw'), '')
    await copyBase(dir, id, empty)
    await promote(dir, id, head(), hashes)
    await promote(dir, id, head({ generation: 2, release: 'v2' }), hashes)
    const last = await lastDisk(dir, id)
    expect(last).toMatchObject({ generation: 2, path: join(dir, 'disk.raw'), head: { release: 'v2' } })
    expect((await readdir(join(dir, 'lineages', id.base))).filter((name) => name.startsWith(`${id.key}-`))).toHaveLength(1)
  })

  test.each<[string, Partial<Head>, RegExp]>([
    ['after 20 bakes', { generation: 20 }, /20 bakes since the base/],
    ['when more has changed than a first bake changes', { allBlocks: 2 * 100 + 257 }, /457 blocks\) is more than twice/],
    ['when its disk is gone', { file: 'gone.qcow2' }, /the last disk \(release v1\) is gone/],
  ])('begins again %s', async (_, more, none) => {
    await writeFile(join(dir, 'disk.raw'), '')
    await copyBase(dir, id, empty)
    await promote(dir, id, head(more), hashes)
    expect(await lastDisk(dir, id)).toEqual({ none: expect.stringMatching(none) })
  })
})
