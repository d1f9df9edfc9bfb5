import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RemoteRepository } from '../../src/io/git-remote.ts'
import { git, makeRepo, type TestRepo } from '../support/repo.ts'

let repo: TestRepo
let first: string
let second: string
let dir: string
beforeAll(async () => {
  repo = await makeRepo({ files: { 'bake.yaml': 'a: 1\n', 'web/big': 'x'.repeat(1_000_000), 'web/Dockerfile': 'FROM a\n' } })
  await repo.git('config', 'uploadpack.allowFilter', 'true')
  first = await repo.git('rev-parse', 'HEAD')
  await repo.git('tag', '-a', '-m', 'one', 'v1')
  await repo.git('branch', 'feature/x')
  second = await repo.commit({ 'bake.yaml': 'a: 2\n' })
  await repo.git('tag', 'light')
  dir = await mkdtemp(join(tmpdir(), 'bake-remote-'))
})
afterAll(async () => {
  await rm(dir, { recursive: true, force: true })
  await repo[Symbol.asyncDispose]()
})

const open = (source = repo.dir, at = dir) => RemoteRepository.open({ dir: at, source })
const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('utf8')

describe('a repository without a checkout', () => {
  test('finds the default branch, a branch, tags of both kinds and commits', async () => {
    await using remote = await open()
    expect(await remote.resolve({})).toEqual({ commit: second, branch: 'main' })
    expect(await remote.resolve({ branch: 'feature/x' })).toEqual({ commit: first, branch: 'feature/x' })
    expect(await remote.resolve({ branch: 'refs/heads/main' })).toEqual({ commit: second, branch: 'main' })
    expect(await remote.resolve({ tag: 'v1' })).toEqual({ commit: first })
    expect(await remote.resolve({ tag: 'light' })).toEqual({ commit: second })
    expect(await remote.resolve({ sha: first })).toEqual({ commit: first })
    expect(await remote.resolve({ sha: second.slice(0, 8).toUpperCase() })).toEqual({ commit: second })
  })

  test('brings trees, and a file only when it is read', async () => {
    await using at = {
      path: await mkdtemp(join(tmpdir(), 'bake-remote-')),
      [Symbol.asyncDispose]: () => rm(at.path, { recursive: true }),
    }
    await using remote = await open(repo.dir, at.path)
    await remote.resolve({ sha: first })
    const store = join(at.path, (await readdir(at.path))[0]!)
    const missing = async () => (await git(store, 'rev-list', '--objects', '--missing=print', first)).match(/^\?/gm)?.length ?? 0
    expect(await missing()).toBe(3)
    expect((await remote.objects.tree(first, '')).map(({ path }) => path)).toEqual(['bake.yaml', 'web/Dockerfile', 'web/big'])
    expect(text(await remote.objects.file(first, 'bake.yaml'))).toBe('a: 1\n')
    expect(text(await remote.objects.file(first, 'web/Dockerfile'))).toBe('FROM a\n')
    expect(await missing()).toBe(1)
    // The history is not there.
    expect(await git(store, 'rev-list', '--count', first)).toBe('1')
  })

  test('works with a server that can’t filter', async () => {
    await using plain = await makeRepo({ files: { 'bake.yaml': 'b: 1\n' } })
    await using remote = await open(plain.dir)
    const { commit } = await remote.resolve({ branch: 'main' })
    expect(text(await remote.objects.file(commit, 'bake.yaml'))).toBe('b: 1\n')
  })

  test('of sha256 ids too', async () => {
    await using other = await makeRepo({ files: { 'bake.yaml': 'c: 1\n' }, objectFormat: 'sha256' })
    await using remote = await open(other.dir)
    const { commit } = await remote.resolve({})
    expect(commit).toHaveLength(64)
    expect(text(await remote.objects.file(commit, 'bake.yaml'))).toBe('c: 1\n')
  })

  test('is fetched into by several at once', async () => {
    const remotes = await Promise.all(Array.from({ length: 4 }, () => open(repo.dir, join(dir, 'many'))))
    const found = await Promise.all(remotes.map((remote, at) => remote.resolve({ sha: at % 2 ? first : second })))
    expect(found.map(({ commit }) => commit)).toEqual([second, first, second, first])
    for (const remote of remotes) await remote.close()
  })

  test.each([
    [{ branch: 'mian' }, 'unknown_ref', /has no branch "mian"/],
    [{ tag: 'v9' }, 'unknown_ref', /has no tag "v9"/],
    [{ branch: '-d' }, 'bad_ref', /not a legal branch name/],
    [{ sha: 'zzzz' }, 'bad_sha', /not a commit id/],
    [{ sha: 'abcdef' }, 'short_sha', /beginning of no branch or tag/],
    [{ sha: 'a'.repeat(40) }, 'commit_not_found', /is not in/],
  ])('refuses %j', async (what, code, message) => {
    await using remote = await open()
    await expect(remote.resolve(what)).rejects.toMatchObject({ kind: 'user', code, message: expect.stringMatching(message) })
  })

  test('refuses an address that git would run, and says when nobody is there', async () => {
    await expect(open('ext::sh -c x')).rejects.toMatchObject({ code: 'bad_repository' })
    await using remote = await open(join(tmpdir(), 'bake-nowhere'))
    await expect(remote.resolve({})).rejects.toMatchObject({ kind: 'world', code: 'repository_unreachable' })
  })

  test('with no commit yet says so', async () => {
    await using empty = await makeRepo()
    await using remote = await open(empty.dir)
    await expect(remote.resolve({})).rejects.toMatchObject({ code: 'unknown_ref', next: expect.stringMatching(/no commit yet/) })
  })
})
