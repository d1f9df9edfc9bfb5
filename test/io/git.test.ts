import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Checkout } from '../../src/io/git.ts'
import { makeRepo } from '../support/repo.ts'

const code = (expected: string) => expect.objectContaining({ code: expected })
afterEach(() => vi.unstubAllEnvs())

describe('opening', () => {
  test('finds the root, the prefix and HEAD from a subdirectory', async () => {
    await using repo = await makeRepo({ files: { 'sub dir/deep/a': 'a' } })
    await using checkout = await Checkout.open(join(repo.dir, 'sub dir/deep'))
    expect(checkout.root).toBe(await realpath(repo.dir))
    expect(checkout.prefix).toBe('sub dir/deep/')
    expect(await checkout.resolve({})).toEqual({ commit: await repo.git('rev-parse', 'HEAD'), branch: 'main' })
  })

  test('says what a directory is that is no checkout', async () => {
    await using bare = await makeRepo({ bare: true })
    await using repo = await makeRepo({ files: { a: 'a' } })
    const none = await mkdtemp(join(tmpdir(), 'bake-none-'))
    await expect(Checkout.open(bare.dir)).rejects.toEqual(code('bare_repository'))
    await expect(Checkout.open(join(repo.dir, '.git'))).rejects.toEqual(code('bare_repository'))
    await expect(Checkout.open(none)).rejects.toEqual(code('not_a_repository'))
    await expect(Checkout.open(join(none, 'nowhere'))).rejects.toEqual(code('not_a_repository'))
    await rm(none, { recursive: true })
  })

  test('takes a linked work tree, and a root whose name holds a line break', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const linked = join(repo.dir, 'linked\ntree')
    await repo.git('worktree', 'add', '-q', '-b', 'other', linked)
    await using checkout = await Checkout.open(linked)
    expect(checkout.root).toBe(await realpath(linked))
    expect((await checkout.resolve({})).branch).toBe('other')
  })

  test('has no branch on a detached HEAD, and no commit before the first', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    await repo.git('checkout', '-q', '--detach')
    await using detached = await Checkout.open(repo.dir)
    expect(await detached.resolve({})).toEqual({ commit: await repo.git('rev-parse', 'HEAD') })
    await using empty = await makeRepo()
    await using unborn = await Checkout.open(empty.dir)
    expect(unborn.root).toBe(await realpath(empty.dir))
    await expect(unborn.resolve({})).rejects.toEqual(code('no_commits'))
  })

  test('says when git is missing, and when it is too old', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const bin = join(repo.dir, 'bin')
    await mkdir(bin)
    vi.stubEnv('PATH', bin)
    await expect(Checkout.open(repo.dir)).rejects.toEqual(code('git_missing'))
    const event = '{"event":"version","sid":"x","exe":"2.25.1"}'
    await writeFile(join(bin, 'git'), `#!/bin/sh\necho '${event}' >&2\necho false; echo true; echo ${repo.dir}\n`, {
      mode: 0o755,
    })
    await expect(Checkout.open(repo.dir)).rejects.toEqual(code('git_too_old'))
  })

  test('names the fix when another user owns the checkout', async (context) => {
    if (process.getuid?.() !== 0) return context.skip()
    await using repo = await makeRepo({ files: { a: 'a' } })
    const { chown } = await import('node:fs/promises')
    await chown(repo.dir, 12345, 12345)
    await chown(join(repo.dir, '.git'), 12345, 12345)
    vi.stubEnv('HOME', '/nonexistent')
    await expect(Checkout.open(repo.dir)).rejects.toEqual(
      expect.objectContaining({ code: 'repository_not_trusted', exit: 4, next: expect.stringContaining('safe.directory') }),
    )
  })

  test('is not led elsewhere by the environment of a git hook', async () => {
    await using other = await makeRepo({ files: { b: 'b' } })
    await using repo = await makeRepo({ files: { a: 'a' } })
    vi.stubEnv('GIT_DIR', join(other.dir, '.git'))
    vi.stubEnv('GIT_INDEX_FILE', join(other.dir, '.git/index'))
    await using checkout = await Checkout.open(repo.dir)
    expect(checkout.root).toBe(await realpath(repo.dir))
    expect(await checkout.changes()).toEqual([])
  })
})

describe('resolving', () => {
  test('a commit id: short, long, upper case', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    await using checkout = await Checkout.open(repo.dir)
    for (const sha of [commit, commit.slice(0, 7), commit.slice(0, 12).toUpperCase()])
      expect(await checkout.resolve({ sha })).toEqual({ commit })
  })

  test('refuses what is no id, and ids that it does not have', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    await using checkout = await Checkout.open(repo.dir)
    for (const sha of ['', 'abc', 'main', '-abcd', 'abcd\n', 'HEAD~1', 'a'.repeat(65), '--all'])
      await expect(checkout.resolve({ sha })).rejects.toEqual(code('bad_sha'))
    const blob = await repo.git('rev-parse', 'HEAD:a')
    for (const sha of ['0123456789', 'f'.repeat(40), blob, blob.slice(0, 10)])
      await expect(checkout.resolve({ sha })).rejects.toEqual(code('unknown_commit'))
  })

  test('names the candidates of an ambiguous id, and prefers an id to a branch of that name', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const seen = new Map<string, string>()
    let pair: [string, string] | undefined
    const tree = await repo.git('rev-parse', 'HEAD^{tree}')
    for (let n = 0; pair === undefined && n < 2000; n++) {
      const commit = await repo.git('commit-tree', tree, '-m', `number ${n}`)
      const earlier = seen.get(commit.slice(0, 4))
      if (earlier !== undefined) pair = [earlier, commit]
      seen.set(commit.slice(0, 4), commit)
    }
    const [one = '', two = ''] = pair ?? []
    const short = one.slice(0, 4)
    await repo.git('branch', short)
    await using checkout = await Checkout.open(repo.dir)
    const error = await checkout.resolve({ sha: short }).catch((caught) => caught)
    expect(error).toEqual(code('ambiguous_commit'))
    expect(error.message).toContain(one.slice(0, 12))
    expect(error.message).toContain(two.slice(0, 12))
    expect(error.message).toContain('number ')
    expect(await checkout.resolve({ sha: two.slice(0, 12) })).toEqual({ commit: two })
  })

  test('branches and tags of any legal name', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const first = await repo.git('rev-parse', 'HEAD')
    const names = ['feature/über-"quoted"', "it's;$(id)", 'HEAD', 'a@b', 'deadbeef']
    for (const name of names) await repo.git('update-ref', `refs/heads/${name}`, first)
    await repo.git('tag', '-a', 'v1', '-m', 'annotated')
    await repo.git('tag', 'main')
    const second = await repo.commit({ a: 'b' })
    await using checkout = await Checkout.open(repo.dir)
    for (const branch of names) expect(await checkout.resolve({ branch })).toEqual({ commit: first, branch })
    expect(await checkout.resolve({ branch: 'refs/heads/main' })).toEqual({ commit: second, branch: 'main' })
    expect(await checkout.resolve({ tag: 'v1' })).toEqual({ commit: first })
    expect(await checkout.resolve({ tag: 'main' })).toEqual({ commit: first })
  })

  test('refuses illegal names, and names two ways of naming', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    await using checkout = await Checkout.open(repo.dir)
    for (const branch of [
      '',
      '-x',
      '--upload-pack=id',
      'a..b',
      'a b',
      'main^',
      'main~1',
      '@{-1}',
      'a:b',
      'x.lock',
      '../../HEAD',
      'a\nb',
      'a\0b',
      '*',
    ]) {
      await expect(checkout.resolve({ branch })).rejects.toEqual(code('bad_ref'))
      await expect(checkout.resolve({ tag: branch })).rejects.toEqual(code('bad_ref'))
    }
    await repo.git('tag', 'tree', 'HEAD^{tree}')
    await expect(checkout.resolve({ tag: 'tree' })).rejects.toEqual(code('bad_ref'))
    await expect(checkout.resolve({ tag: 'v1', branch: 'main' })).rejects.toEqual(code('bad_ref'))
  })

  test('suggests near names, and says when only the remote has it', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    await repo.git('branch', 'feature/login')
    await repo.git('update-ref', 'refs/remotes/origin/hotfix', 'HEAD')
    await using checkout = await Checkout.open(repo.dir)
    const next = (text: string) => expect.objectContaining({ code: 'unknown_ref', next: expect.stringContaining(text) })
    await expect(checkout.resolve({ branch: 'feature/logn' })).rejects.toEqual(next('feature/login'))
    await expect(checkout.resolve({ branch: 'origin/main' })).rejects.toEqual(next('main'))
    await expect(checkout.resolve({ branch: 'hotfix' })).rejects.toEqual(next("git branch --track 'hotfix' 'origin/hotfix'"))
    await expect(checkout.resolve({ tag: 'v9' })).rejects.toEqual(code('unknown_ref'))
  })
})

describe('changes', () => {
  test('are changed, staged, removed and untracked paths, not ignored ones', async () => {
    await using repo = await makeRepo({
      files: { a: 'a', b: 'b', gone: 'x', old: 'some text to rename', '.gitignore': 'ignored\n' },
    })
    await using clean = await Checkout.open(repo.dir)
    expect(await clean.changes()).toEqual([])
    await writeFile(join(repo.dir, 'a'), 'changed')
    await writeFile(join(repo.dir, 'new\n"file"'), '')
    await writeFile(join(repo.dir, 'ignored'), '')
    await rm(join(repo.dir, 'gone'))
    await repo.git('mv', 'old', 'renamed')
    expect((await clean.changes()).sort()).toEqual(['a', 'gone', 'new\n"file"', 'old', 'renamed'])
  })
})

describe('objects', () => {
  const hostile = ['-rf', 'line\nbreak', ' space ', '"quoted"', 'ünïcode', 'a:b', '$(id)', 'HEAD']

  test.each(['sha1', 'sha256'] as const)(
    'reads entries, files and lists, whatever they are called (%s)',
    async (objectFormat) => {
      const files = Object.fromEntries(hostile.map((name) => [`dir/${name}`, `in ${name}`]))
      await using repo = await makeRepo({
        objectFormat,
        files: { ...files, run: { executable: '#!/bin/sh' }, link: { link: 'dir/HEAD' }, 'deep/er/x': 'x' },
      })
      await using checkout = await Checkout.open(repo.dir)
      const { commit } = await checkout.resolve({})
      const { objects } = checkout
      for (const name of hostile)
        expect(Buffer.from((await objects.file(commit, `dir/${name}`)) ?? []).toString()).toBe(`in ${name}`)
      expect(await objects.entry(commit, '')).toMatchObject({ mode: '040000', oid: await repo.git('rev-parse', 'HEAD^{tree}') })
      expect(await objects.entry(commit, 'dir')).toEqual({
        path: 'dir',
        mode: '040000',
        oid: await repo.git('rev-parse', 'HEAD:dir'),
      })
      expect((await objects.entry(commit, 'run'))?.mode).toBe('100755')
      expect((await objects.entry(commit, 'link'))?.mode).toBe('120000')
      expect(Buffer.from((await objects.file(commit, 'link')) ?? []).toString()).toBe('dir/HEAD')
      expect(await objects.entry(commit, 'link/x')).toBeUndefined()
      expect(await objects.entry(commit, 'dir/none')).toBeUndefined()
      expect(await objects.file(commit, 'dir')).toBeUndefined()
      expect((await objects.tree(commit, 'dir')).map(({ path }) => path).sort()).toEqual([...hostile].sort())
      expect((await objects.tree(commit, 'deep')).map(({ path }) => path)).toEqual(['er/x'])
      expect(await objects.tree(commit, 'run')).toEqual([])
      expect(await objects.tree(commit, 'none')).toEqual([])
    },
  )

  test('reads large files and many at once, in order', async () => {
    const big = Buffer.alloc(5_000_000, 'large\n')
    const files = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`f${n}`, `content ${n}\n`.repeat(n)]))
    await using repo = await makeRepo({ files: { ...files, big, empty: '' } })
    await using checkout = await Checkout.open(repo.dir)
    const { commit } = await checkout.resolve({})
    const read = await Promise.all([...Object.keys(files), 'big', 'empty'].map((path) => checkout.objects.file(commit, path)))
    expect(read.map((bytes) => Buffer.from(bytes ?? 'none').toString('latin1'))).toEqual([
      ...Object.values(files),
      big.toString(),
      '',
    ])
  })

  test('knows ancestry', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    const first = await repo.git('rev-parse', 'HEAD')
    const second = await repo.commit({ a: 'b' })
    await using checkout = await Checkout.open(repo.dir)
    expect(await checkout.objects.reaches(second, first)).toBe(true)
    expect(await checkout.objects.reaches(first, first)).toBe(true)
    expect(await checkout.objects.reaches(first, second)).toBe(false)
    expect(await checkout.objects.reaches(first, 'e'.repeat(40))).toBe(false)
  })

  test('sees commits as they are, not as refs/replace has them here', async () => {
    await using repo = await makeRepo({ files: { a: 'true' } })
    const first = await repo.git('rev-parse', 'HEAD')
    const second = await repo.commit({ a: 'false' })
    await repo.git('replace', first, second)
    await using checkout = await Checkout.open(repo.dir)
    expect(Buffer.from((await checkout.objects.file(first, 'a')) ?? []).toString()).toBe('true')
  })

  test('answers again after it was closed, and an open one never keeps the program running', async () => {
    await using repo = await makeRepo({ files: { a: 'a' } })
    await using checkout = await Checkout.open(repo.dir)
    const { commit } = await checkout.resolve({})
    await checkout.objects.file(commit, 'a')
    await checkout.close()
    expect(Buffer.from((await checkout.objects.file(commit, 'a')) ?? []).toString()).toBe('a')
    const { execFile } = await import('node:child_process')
    const script = `import { Checkout } from ${JSON.stringify(join(import.meta.dirname, '../../src/io/git.ts'))}
      const c = await Checkout.open(${JSON.stringify(repo.dir)}); await c.objects.file(${JSON.stringify(commit)}, 'a'); console.log('read')`
    const out = await new Promise((resolve, reject) =>
      execFile(process.execPath, ['--input-type=module-typescript', '-e', script], { timeout: 10_000 }, (error, stdout) =>
        error ? reject(error) : resolve(stdout),
      ),
    )
    expect(out).toBe('read\n')
  })
})
