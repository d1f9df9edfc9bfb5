import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../../src/ami/direct/blocks.ts'
import { compareBlocks, hashReader } from '../../../src/ami/direct/hashes.ts'
import { basePath, copyBase, knownBase, type LineageId, lastDisk, promote } from '../../../src/ami/direct/lineage.ts'
import { type ScrubWorld, scrubDisks } from '../../../src/ami/direct/scrub.ts'
import { spareLineages } from '../../../src/ami/prune-lineages.ts'
import { openWorkDir } from '../../../src/ami/work-dir.ts'
import { scrubWhenIdle } from '../../../src/context/scrub.ts'
import { thisProcess } from '../../../src/context/whoami.ts'
import { type Layer, openLayers } from '../../../src/io/disk-layers.ts'
import { createOverlay } from '../../../src/io/qemu-img.ts'
import { Slots } from '../../../src/jobs/slots.ts'
import { newBuildId } from '../../../src/names.ts'
import { waitFor } from '../../../src/wait.ts'

const BLOCKS = 24
const DAY_MS = 24 * 3600 * 1000
const never = new AbortController().signal
const id: LineageId = { base: 'b'.repeat(16), key: 'c'.repeat(16) }
let dir: string
let disk: string
let reads: number
let problems: string[]

/** A base, and a release's disk upon it that changed blocks 3 and 5. */
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-scrub-'))
  reads = 0
  problems = []
  const base = await copyBase(dir, id, async (path) => {
    const hashes = hashReader()
    await using file = await open(path, 'wx')
    for (let index = 0; index < BLOCKS; index++) {
      const block = index % 4 === 0 ? Buffer.alloc(BLOCK_BYTES) : randomBytes(BLOCK_BYTES)
      await file.write(block, 0, BLOCK_BYTES, index * BLOCK_BYTES)
      hashes.take(index, block)
    }
    return hashes.end(BLOCKS * BLOCK_BYTES)
  })
  await mkdir(join(dir, 'machines'))
  disk = join(dir, 'machines', 'v1.qcow2')
  await createOverlay(disk, { path: base.path, format: 'raw' }, { tracked: true })
  const writes = [3, 5].flatMap((index) => ['-c', `write -P 7 ${index * BLOCK_BYTES} 4k`])
  execFileSync('qemu-io', ['-f', 'qcow2', ...writes, disk])
  await using layer = await openLayers(disk, 'qcow2')
  const { hashes } = await compareBlocks(layer, base.hashes)
  const head = { version: 1, generation: 1, file: relative(dir, disk), diskBytes: BLOCKS * BLOCK_BYTES } as const
  await promote(dir, id, { ...head, firstBlocks: 2, allBlocks: 2, release: 'v1', build: newBuildId(), snapshots: {} }, hashes)
  return () => rm(dir, { recursive: true })
})

/** Counts what is read of whole disks. */
const layers: ScrubWorld['layers'] = async (path, format) => {
  const layer: Layer = await openLayers(path, format)
  const read: Layer['read'] = (...what) => {
    reads++
    return layer.read(...what)
  }
  return { ...layer, read }
}
const scrub = (more: Partial<ScrubWorld> = {}, signal = never) =>
  scrubDisks(
    { stateDir: dir, layers, now: Date.now, onProblem: (text) => problems.push(text), share: 1, limitMs: 60_000, ...more },
    signal,
  )
async function damage(path: string, at: number): Promise<void> {
  await using file = await open(path, 'r+')
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
  await file.write(Buffer.from([buffer[0]! ^ 1]), 0, 1, at)
}
const noteOf = async (name: string) =>
  JSON.parse(await readFile(join(dir, 'lineages', id.base, `${name}.scrub`), 'utf8')) as { at?: number; next: number }
const last = () => lastDisk(dir, id)

test('disks that are as recorded are noted as read, and read again a day later', async () => {
  await scrub()
  expect([reads, problems]).toEqual([2 * BLOCKS, []])
  expect(await noteOf(`${id.key}.json`)).toEqual({ version: 1, at: expect.any(Number), next: 0 })
  await scrub({ now: () => Date.now() + DAY_MS - 60_000 })
  expect(reads).toBe(2 * BLOCKS)
  await scrub({ now: () => Date.now() + DAY_MS })
  expect(reads).toBe(4 * BLOCKS)
  expect(await last()).toMatchObject({ generation: 1 })
})

test('a byte that flipped in the last disk: it is forgotten, and told', async () => {
  await damage(disk, (await readFile(disk)).indexOf(Buffer.alloc(512, 7)) + 100)
  await scrub()
  expect(problems).toEqual([
    expect.stringMatching(/^the disk of release v1, .* begins with the base \(block [35] isn't what was/),
  ])
  expect(await last()).toHaveProperty('none')
  expect(await knownBase(dir, id)).toBeDefined()
  problems = []
  await scrub()
  expect(problems).toEqual([])
})

test('a byte that flipped in the copy of the base: what stands on it is forgotten too, but stays where it is', async () => {
  await damage(basePath(dir, id), 10 * BLOCK_BYTES + 5)
  await scrub()
  expect(problems).toEqual([
    expect.stringMatching(/the copy of a base, is damaged: .* copies it again \(block 10 /),
    expect.stringContaining('the disk of release v1'),
  ])
  expect([await knownBase(dir, id), await last()]).toEqual([undefined, expect.objectContaining({ none: expect.any(String) })])
  for (const path of [disk, basePath(dir, id)]) expect(existsSync(path)).toBe(true)
})

test('tables that tell nonsense are damage as well', async () => {
  await using file = await open(disk, 'r+')
  await file.write(Buffer.alloc(4), 0, 4, 0)
  await file.close()
  await scrub()
  expect(problems).toEqual([expect.stringContaining('is no qcow2 file that can be read here')])
  expect(await last()).toHaveProperty('none')
})

test('whoever needs the machine has it at once, and reading goes on where it was stopped', async () => {
  const began = performance.now()
  // A pause would take most of a minute.
  await scrub({ share: 0.00001 }, AbortSignal.timeout(300))
  expect(performance.now() - began).toBeLessThan(2_000)
  expect(reads).toBeLessThan(BLOCKS)
  const { next } = await noteOf('base.raw')
  expect(next).toBe(reads)
  expect(next).toBeGreaterThan(0)
  await scrub()
  expect(reads).toBe(2 * BLOCKS)
  expect(problems).toEqual([])
})

test('an idle worker does it, but not while somebody bakes in its state directory', async () => {
  await damage(basePath(dir, id), 10 * BLOCK_BYTES + 5)
  const drain = new AbortController()
  await using bake = await openWorkDir(dir, newBuildId(), thisProcess())
  const onProblem = (text: string) => problems.push(text)
  await using _scrub = scrubWhenIdle({ stateDir: dir, drain: drain.signal, slots: [new Slots(2)], onProblem })
  await new Promise((resolve) => setTimeout(resolve, 4_000))
  expect(problems).toEqual([])
  await bake[Symbol.asyncDispose]()
  const found = () => (problems.length > 0 ? true : undefined)
  await waitFor(found, { what: 'the damage', deadlineMs: 15_000, intervalMs: 50 })
  expect(problems[0]).toContain('the copy of a base, is damaged')
  drain.abort()
}, 30_000)

test('it takes its share of the time, and no longer than it may', async () => {
  const began = performance.now()
  await scrub({ share: 0.02, limitMs: 300 })
  // The rest of a second is this machine's.
  expect(performance.now() - began).toBeLessThan(1_300)
  expect(reads).toBeLessThan(2 * BLOCKS)
})

test('what it noted stays as long as what it is about', async () => {
  await scrub()
  expect(await spareLineages(dir, [disk])).toEqual([])
  await rm(join(dir, 'lineages', id.base, `${id.key}.json`))
  const spare = (await spareLineages(dir, [disk])).map(({ id: path }) => path.slice(path.lastIndexOf('/') + 1))
  expect(spare).toEqual(expect.arrayContaining([`${id.key}.json.scrub`]))
  expect(spare).not.toContain('base.raw.scrub')
})
