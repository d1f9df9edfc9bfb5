import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { resolveUrl } from '../../src/io/git-submodules.ts'
import { Mirror } from '../../src/io/mirror.ts'
import { WorkTree } from '../../src/io/work-tree.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'
import { snapshot } from '../support/snapshot.ts'

const { signal } = new AbortController()
const plain = { submodules: false, lfs: false, signal }
const full = { submodules: true, lfs: false, signal }
const code = (expected: string) => expect.objectContaining({ code: expected })
let dir: string
let repo: TestRepo
let mirror: Mirror
let tree: WorkTree

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-modules-'))
  repo = await makeRepo({ files: { a: 'a' } })
  mirror = new Mirror(join(dir, 'mirrors/shop.git'), { allowLocal: true })
  tree = new WorkTree({ mirror, dir: join(dir, 'slot/tree'), index: join(dir, 'slot/index') })
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await mirror.close()
  await repo[Symbol.asyncDispose]()
  await rm(dir, { recursive: true, force: true })
})

async function moveTo(commit: string, options: { submodules: boolean; lfs: boolean; signal: AbortSignal }) {
  await mirror.fetch({ source: repo.dir, commit, signal })
  await tree.move(commit, options)
  return snapshot(tree.dir)
}

/** A commit with submodules by path, written straight into the index: no network, no clone. */
async function withModules(modules: Record<string, { url: string; commit: string }>) {
  const text = Object.entries(modules).map(([path, { url }]) => `[submodule "${path}"]\n\tpath = ${path}\n\turl = ${url}\n`)
  await repo.git('rm', '-rq', '--cached', '--ignore-unmatch', 'lib', 'vendor')
  await writeFile(join(repo.dir, '.gitmodules'), text.join(''))
  await repo.git('add', '.gitmodules')
  for (const [path, { commit }] of Object.entries(modules))
    await repo.git('update-index', '--add', '--cacheinfo', `160000,${commit},${path}`)
  await repo.git('commit', '-q', '-m', 'modules')
  return repo.git('rev-parse', 'HEAD')
}

describe('submodules', () => {
  test('are checked out below their path, recursively, moved with their parent, and emptied when they are no more wanted', async () => {
    await using inner = await makeRepo({ files: { deep: 'deep' } })
    const deep = await inner.git('rev-parse', 'HEAD')
    await using lib = await makeRepo({
      files: { x: 'one', '.gitmodules': `[submodule "in"]\n\tpath = in\n\turl = ${inner.dir}\n` },
    })
    await lib.git('update-index', '--add', '--cacheinfo', `160000,${deep},in`)
    await lib.git('commit', '-q', '-m', 'inner')
    const one = await lib.git('rev-parse', 'HEAD')
    await lib.git('rm', '-q', '--cached', 'in')
    const two = await lib.commit({ x: 'two', '.gitmodules': null })
    const first = await withModules({ 'lib/x y': { url: lib.dir, commit: one } })
    const second = await withModules({ 'lib/x y': { url: lib.dir, commit: two } })

    expect(await moveTo(first, full)).toMatchObject({
      a: 'file 644 a',
      'lib/x y/x': 'file 644 one',
      'lib/x y/in/deep': 'file 644 deep',
    })
    await writeFile(join(tree.dir, 'lib/x y/stray'), '')
    expect(await moveTo(second, full)).toEqual({
      '.gitmodules': expect.any(String),
      a: 'file 644 a',
      lib: 'directory 755',
      'lib/x y': 'directory 755',
      'lib/x y/x': 'file 644 two',
    })
    expect(await moveTo(second, plain)).toEqual({
      '.gitmodules': expect.any(String),
      a: 'file 644 a',
      lib: 'directory 755',
      'lib/x y': 'directory 755',
    })
    expect(await moveTo(first, full)).toMatchObject({ 'lib/x y/in/deep': 'file 644 deep' })
    await repo.git('rm', '-rq', '--cached', 'lib')
    const none = await repo.commit({ '.gitmodules': null, 'lib/plain': 'file' })
    expect(await moveTo(none, full)).toEqual({ a: 'file 644 a', lib: 'directory 755', 'lib/plain': 'file 644 file' })
    expect(await readdir(join(dir, 'slot/index.modules'))).toEqual([])
  })

  test("come from the checkout's own clone when their commit was never pushed", async () => {
    await using lib = await makeRepo({ files: { x: 'pushed' } })
    await repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.dir, 'vendor/lib')
    const clone = { dir: join(repo.dir, 'vendor/lib') }
    await writeFile(join(clone.dir, 'x'), 'only here')
    await repo.git('-C', clone.dir, 'commit', '-qam', 'unpushed')
    const commit = await repo.commit({})
    expect(await moveTo(commit, full)).toMatchObject({ 'vendor/lib/x': 'file 644 only here' })
  })

  test('that nobody can place, or from a source that is not allowed, are refused', async () => {
    const commit = 'c'.repeat(40)
    const unmapped = await withModules({ lib: { url: '/x', commit } })
    await repo.git('rm', '-q', '--cached', '.gitmodules')
    await rm(join(repo.dir, '.gitmodules'))
    await repo.git('commit', '-q', '-m', 'unmapped')
    await expect(moveTo(await repo.git('rev-parse', 'HEAD'), full)).rejects.toEqual(code('submodule_unmapped'))
    await expect(moveTo(unmapped, full)).rejects.toEqual(code('repository_unreachable'))
    for (const url of [`ext::sh -c "touch ${dir}/pwned"`, '-x', 'http://host/x', `--upload-pack=touch ${dir}/pwned`])
      await expect(moveTo(await withModules({ lib: { url: JSON.stringify(url), commit } }), full)).rejects.toEqual(
        code('bad_repository'),
      )
    expect(await readdir(dir)).not.toContain('pwned')
  })

  test.each([
    ['https://host/acme/shop.git', '../lib.git', 'https://host/acme/lib.git'],
    ['https://host/acme/shop.git/', './lib', 'https://host/acme/shop.git/lib'],
    ['git@host:acme/shop.git', '../lib.git', 'git@host:acme/lib.git'],
    ['git@host:shop.git', '../lib.git', 'git@host:lib.git'],
    ['git@host:acme/shop.git', '../../other/lib.git', 'git@host:other/lib.git'],
    ['/srv/git/shop', '../lib', '/srv/git/lib'],
    ['https://host/a', 'https://other/lib', 'https://other/lib'],
  ])('%s + %s', (base, url, expected) => {
    expect(resolveUrl(base, url)).toBe(expected)
  })
})

describe('LFS', () => {
  const hasLfs = (() => {
    try {
      return execFileSync('git', ['lfs', 'version']).length > 0
    } catch {
      return false
    }
  })()

  /** A pointer as `git lfs` would commit it, and its file in the checkout's own store. */
  async function commitLarge(content: string) {
    const { createHash } = await import('node:crypto')
    const oid = createHash('sha256').update(content).digest('hex')
    const store = join(repo.dir, '.git/lfs/objects', oid.slice(0, 2), oid.slice(2, 4))
    await mkdir(store, { recursive: true })
    await writeFile(join(store, oid), content)
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`
    return {
      pointer,
      commit: await repo.commit({ '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n', 'big.bin': pointer }),
    }
  }

  test('off, pointers stay pointers', async () => {
    const { pointer, commit } = await commitLarge('large content')
    expect(await moveTo(commit, plain)).toMatchObject({ 'big.bin': `file 644 ${pointer}` })
  })

  test('on, without git-lfs, names the fix', async () => {
    const { commit } = await commitLarge('large content')
    const bin = join(dir, 'bin')
    const exec = join(dir, 'exec')
    await mkdir(bin)
    // A PATH and an exec path with git but without git-lfs.
    for (const tool of ['git', 'sh', 'setpriv', 'find', 'rm', 'chmod'])
      execFileSync('ln', ['-s', execFileSync('which', [tool], { encoding: 'utf8' }).trim(), join(bin, tool)])
    execFileSync('cp', ['-rs', execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), exec])
    await rm(join(exec, 'git-lfs'), { force: true })
    vi.stubEnv('PATH', bin)
    vi.stubEnv('GIT_EXEC_PATH', exec)
    await expect(moveTo(commit, { ...plain, lfs: true })).rejects.toEqual(code('git_lfs_missing'))
  })

  test.skipIf(!hasLfs)('on, files come from the source; switching it rewrites them', async () => {
    const { pointer, commit } = await commitLarge('large content')
    expect(await moveTo(commit, plain)).toMatchObject({ 'big.bin': `file 644 ${pointer}` })
    expect(await moveTo(commit, { ...plain, lfs: true })).toMatchObject({ 'big.bin': 'file 644 large content' })
    const next = await commitLarge('other content')
    expect(await moveTo(next.commit, { ...plain, lfs: true })).toMatchObject({ 'big.bin': 'file 644 other content' })
    expect(await moveTo(next.commit, plain)).toMatchObject({ 'big.bin': `file 644 ${next.pointer}` })
  })

  test.skipIf(!hasLfs)('a file that the source lacks is said so', async () => {
    const { commit } = await commitLarge('large content')
    await rm(join(repo.dir, '.git/lfs'), { recursive: true })
    await expect(moveTo(commit, { ...plain, lfs: true })).rejects.toEqual(code('lfs_unreachable'))
  })
})
