import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ReleaseDocument, readRelease } from '../../src/ami/records.ts'
import { recordRelease, resolveRelease } from '../../src/ami/release.ts'
import { Checkout } from '../../src/io/git.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'

let repo: TestRepo
let checkout: Checkout
let ledger: DirectoryLedger
let [one, two] = ['', '']
beforeAll(async () => {
  repo = await makeRepo({ files: { a: '1' } })
  one = await repo.git('rev-parse', 'HEAD')
  await repo.git('tag', 'v1')
  await repo.git('tag', '-a', '-m', 'annotated', 'release/v2+rc.1')
  two = await repo.commit({ a: '2' })
  checkout = await Checkout.open(repo.dir)
  ledger = new DirectoryLedger(`${repo.dir}/.bake/ledger`)
})
afterAll(async () => {
  await checkout.close()
  await repo[Symbol.asyncDispose]()
})

const resolve = (ask: { release?: string; sha?: string }) => resolveRelease(ask, checkout, ledger)
const document = (name: string, commit: string): ReleaseDocument => ({
  ...{ version: 1, name, project: 'shop', commit, createdAt: 1, images: [], standIns: [] },
})

test('a name is its git tag’s commit, annotated or not', async () => {
  expect(await resolve({ release: 'v1' })).toEqual({ name: 'v1', commit: one, recorded: undefined })
  expect(await resolve({ release: 'release/v2+rc.1' })).toMatchObject({ name: 'release/v2+rc.1', commit: one })
})

test('with a commit the name is only a name; a commit alone has one made of it', async () => {
  expect(await resolve({ release: 'v9', sha: two.slice(0, 9) })).toMatchObject({ name: 'v9', commit: two })
  expect(await resolve({ sha: two.slice(0, 9) })).toMatchObject({ name: `sha-${two.slice(0, 12)}`, commit: two })
})

test.each([
  [{}, 'release_missing'],
  [{ release: 'v3' }, 'unknown_ref'],
  [{ release: '-rf' }, 'bad_release'],
  [{ release: 'v1..v2' }, 'bad_release'],
  [{ release: 'a//b' }, 'bad_release'],
  [{ release: '' }, 'bad_release'],
  [{ release: 'v1\n' }, 'bad_release'],
  [{ release: 'x'.repeat(129) }, 'bad_release'],
  [{ release: 'v1', sha: 'zzzz' }, 'bad_sha'],
  [{ release: 'v1', sha: 'dead'.repeat(10) }, 'unknown_commit'],
])('%o is refused: %s', async (ask, code) => {
  await expect(resolve(ask)).rejects.toMatchObject({ code, exit: 2, next: expect.any(String) })
})

test('sha-… is the name of one commit only', async () => {
  await expect(resolve({ release: `sha-${one.slice(0, 12)}`, sha: two })).rejects.toMatchObject({ code: 'bad_release' })
  expect(await resolve({ release: `sha-${one.slice(0, 12)}`, sha: one })).toMatchObject({ commit: one })
})

test('a tag that moved is refused, with both commits', async () => {
  await recordRelease(document('moving', one), ledger)
  await repo.git('tag', 'moving', two)
  const moved = { code: 'release_moved', exit: 2, ids: { release: 'moving', recorded: one, commit: two } }
  await expect(resolve({ release: 'moving' })).rejects.toMatchObject(moved)
  await expect(resolve({ release: 'moving', sha: two })).rejects.toMatchObject(moved)
  await repo.git('tag', '-f', 'moving', one)
  expect(await resolve({ release: 'moving' })).toMatchObject({ commit: one, recorded: { commit: one } })
})

test('a recorded release needs no tag', async () => {
  await recordRelease(document('untagged', two), ledger)
  expect(await resolve({ release: 'untagged' })).toMatchObject({ commit: two, recorded: { name: 'untagged' } })
})

test('whoever records first counts: the same commit is taken as it is, another one refused', async () => {
  const first = document('raced', one)
  expect(await recordRelease(first, ledger)).toEqual(first)
  expect(await recordRelease({ ...first, createdAt: 2 }, ledger)).toMatchObject({ createdAt: 1 })
  await expect(recordRelease(document('raced', two), ledger)).rejects.toMatchObject({ code: 'release_moved' })
  expect(await readRelease(ledger, 'raced')).toMatchObject({ commit: one })
})
