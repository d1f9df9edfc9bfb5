import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Warm, WarmthBook, warmthOf } from '../../src/jobs/warmth.ts'
import { sha256 } from '../../src/names.ts'

async function book() {
  const dir = await mkdtemp(join(tmpdir(), 'bake-warmth-'))
  onTestFinished(() => rm(dir, { recursive: true }))
  return { dir, book: new WarmthBook(dir) }
}
const warm = (at: number, by: Warm['by'] = 'built-here'): Warm => ({ digest: 'sha256:1', by, at })

test('what is noted of one engine says nothing of another; the last note counts; a damaged one is none', async () => {
  const { dir, book: one } = await book()
  expect(await one.of('engine', 'web')).toBeUndefined()
  await one.note('engine', 'web', warm(1, 'warmed'))
  await one.note('engine', 'web', warm(2))
  expect(await new WarmthBook(dir).of('engine', 'web')).toEqual(warm(2))
  expect(await one.of('another', 'web')).toBeUndefined()
  await writeFile(join(dir, sha256('engine').slice(0, 16), 'web'), '{"by"')
  expect(await one.of('engine', 'web')).toBeUndefined()
})

test('a garbage collection takes what was filled before the last lost use, and what was being filled then', async () => {
  const { book: one } = await book()
  for (const [image, at] of Object.entries({ old: 10, during: 25, new: 40 })) await one.note('engine', image, warm(at))
  await one.note('another', 'old', warm(10))
  await one.forget('engine', 20)
  expect(await one.of('engine', 'old')).toBeUndefined()
  expect(await one.of('engine', 'during')).toBeUndefined()
  expect(await one.of('engine', 'new')).toBeDefined()
  expect(await one.of('another', 'old')).toBeDefined()
  await one.forget('engine', 100)
  expect(await one.of('engine', 'new')).toBeUndefined()
})

test.each([
  ['built-here', warm(1), { cached: 3 }, true],
  ['warmed', warm(1, 'warmed'), { cached: 3 }, false],
  ['registry', undefined, { cached: 3 }, true],
  ['cold', undefined, { cached: 3 }, false],
  ['cold', warm(1), { cached: 0 }, true],
] as const)('a build is %s', (expected, before, steps, cacheFound) => {
  expect(warmthOf(before, { steps, cacheFound })).toBe(expected)
})
