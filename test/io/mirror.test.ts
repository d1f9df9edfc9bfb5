import { execFile, fork } from 'node:child_process'
import { chmod, chown, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Mirror } from '../../src/io/mirror.ts'
import { git, makeRepo } from '../support/repo.ts'

let dir: string
let mirror: Mirror
const { signal } = new AbortController()
const code = (expected: string) => expect.objectContaining({ code: expected })

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-mirror-'))
  mirror = new Mirror(join(dir, 'shop.git'), { allowLocal: true })
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await mirror.close()
  await rm(dir, { recursive: true, force: true })
})

const text = async (from: Mirror, commit: string, path: string) =>
  Buffer.from((await from.objects.file(commit, path)) ?? 'none').toString()

describe('fetching', () => {
  test('brings a commit that no branch has, and tells where the branch is now', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const first = await repo.git('rev-parse', 'HEAD')
    await repo.git('checkout', '-q', '--detach')
    const loose = await repo.commit({ a: '2' })
    expect(await mirror.fetch({ source: repo.dir, commit: loose, branch: 'main', signal })).toEqual({ tip: first })
    expect(await text(mirror, loose, 'a')).toBe('2')
    expect(await mirror.objects.reaches(loose, first)).toBe(true)
    expect(await readdir(mirror.dir)).not.toContain('FETCH_HEAD')
  })

  test('starts no fetch for a commit that is here, and does when the branch is asked for', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    await mirror.fetch({ source: repo.dir, commit, signal })
    await repo[Symbol.asyncDispose]()
    expect(await mirror.fetch({ source: repo.dir, commit, signal })).toEqual({})
    await expect(mirror.fetch({ source: repo.dir, commit, branch: 'main', signal })).rejects.toEqual(
      code('repository_unreachable'),
    )
  })

  test('follows a forced push, and keeps what was built before from gc', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const old = await repo.commit({ a: 'old' })
    await mirror.fetch({ source: repo.dir, commit: old, branch: 'main', signal })
    await repo.git('reset', '-q', '--hard', 'HEAD~1')
    const next = await repo.commit({ a: 'new' })
    expect(await mirror.fetch({ source: repo.dir, commit: next, branch: 'main', signal })).toEqual({ tip: next })
    await git(mirror.dir, 'gc', '--quiet', '--prune=now')
    expect(await text(mirror, old, 'a')).toBe('old')
    expect(await mirror.objects.reaches(next, old)).toBe(false)
  })

  test('has no tip for a branch that is gone, also one replaced by a branch below it', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    await repo.git('branch', 'feature')
    expect(await mirror.fetch({ source: repo.dir, commit, branch: 'feature', signal })).toEqual({ tip: commit })
    await repo.git('branch', '-m', 'feature', 'feature/"über"')
    expect(await mirror.fetch({ source: repo.dir, commit, branch: 'feature', signal })).toEqual({})
    expect(await mirror.fetch({ source: repo.dir, commit, branch: 'feature/"über"', signal })).toEqual({ tip: commit })
    await repo.git('branch', "feature/it's-üñ;")
    expect(await mirror.fetch({ source: repo.dir, commit, branch: "feature/it's-üñ;", signal })).toEqual({ tip: commit })
  })

  test.each(['shallow', 'linked work tree', 'sha256', 'bare', 'file url'])('takes a source that is %s', async (kind) => {
    await using repo = await makeRepo({ files: { a: '1' }, objectFormat: kind === 'sha256' ? 'sha256' : 'sha1' })
    const commit = await repo.commit({ a: '2' })
    const copy = join(dir, 'copy')
    if (kind === 'shallow') await git(dir, 'clone', '-q', '--depth=1', `file://${repo.dir}`, copy)
    if (kind === 'linked work tree') await repo.git('worktree', 'add', '-q', '--detach', copy)
    if (kind === 'bare') await git(dir, 'clone', '-q', '--bare', repo.dir, copy)
    const source = kind === 'sha256' ? repo.dir : kind === 'file url' ? `file://${repo.dir}` : copy
    const branch = kind === 'linked work tree' ? undefined : 'main'
    expect(await mirror.fetch({ source, commit, branch, signal })).toEqual(branch === undefined ? {} : { tip: commit })
    expect(await text(mirror, commit, 'a')).toBe('2')
    if (kind === 'shallow') {
      const later = await repo.commit({ a: '3' })
      await mirror.fetch({ source: repo.dir, commit: later, signal })
      expect(await text(mirror, later, 'a')).toBe('3')
    }
  })

  test('repairs a fetch that was killed between the commit and its files', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const first = await repo.git('rev-parse', 'HEAD')
    const commit = await repo.commit({ 'x/y': 'content' })
    await mirror.fetch({ source: repo.dir, commit: first, signal })
    const raw = await promisify(execFile)('git', ['cat-file', 'commit', commit], { cwd: repo.dir })
    await writeFile(join(dir, 'raw'), raw.stdout)
    await git(mirror.dir, 'hash-object', '-t', 'commit', '-w', '--literally', join(dir, 'raw'))
    await mirror.fetch({ source: repo.dir, commit, signal })
    expect(await text(mirror, commit, 'x/y')).toBe('content')
  })
})

describe('refusing', () => {
  test('a commit that the source does not have says: push it', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const expected = expect.objectContaining({ code: 'commit_not_found', exit: 2, next: expect.stringContaining('push') })
    for (const branch of [undefined, 'main', 'none'])
      await expect(mirror.fetch({ source: repo.dir, commit: 'a'.repeat(40), branch, signal })).rejects.toEqual(expected)
  })

  test('sources and names that git would take for something else', async () => {
    const commit = 'a'.repeat(40)
    for (const source of [`ext::sh -c "touch ${dir}/pwned"`, `--upload-pack=touch ${dir}/pwned`, 'http://127.0.0.1/x'])
      await expect(mirror.fetch({ source, commit, signal })).rejects.toEqual(code('bad_repository'))
    const remote = new Mirror(join(dir, 'remote.git'), { allowLocal: false })
    await expect(remote.fetch({ source: '/etc', commit, signal })).rejects.toEqual(code('bad_repository'))
    for (const branch of ['-x', 'a:refs/heads/evil', '*', 'a..b', 'x.lock', 'a b', '', '.a/b'])
      await expect(mirror.fetch({ source: dir, commit, branch, signal })).rejects.toEqual(code('bad_ref'))
    for (const bad of ['--all', 'abcd', `${commit}:refs/heads/x`, commit.toUpperCase()])
      await expect(mirror.fetch({ source: dir, commit: bad, signal })).rejects.toEqual(code('bad_sha'))
    expect(await readdir(dir)).toEqual([])
  })

  test('a source rewritten by the user to a transport helper runs nothing', async () => {
    await writeFile(join(dir, '.gitconfig'), `[url "ext::sh -c touch% ${dir}/pwned "]\n\tinsteadOf = https://example.com/\n`)
    vi.stubEnv('HOME', dir)
    vi.stubEnv('GIT_CONFIG_GLOBAL', join(dir, '.gitconfig'))
    await expect(mirror.fetch({ source: 'https://example.com/x', commit: 'a'.repeat(40), signal })).rejects.toEqual(
      code('repository_unreachable'),
    )
    expect(await readdir(dir)).not.toContain('pwned')
  })

  test('what is out of reach, without asking anybody', async () => {
    const commit = 'a'.repeat(40)
    for (const source of [join(dir, 'none'), 'https://127.0.0.1:1/x.git', 'ssh://127.0.0.1:1/x.git'])
      await expect(mirror.fetch({ source, commit, signal })).rejects.toEqual(
        expect.objectContaining({ code: 'repository_unreachable', exit: 4 }),
      )
  })

  test("another user's checkout names the fix", async (context) => {
    if (process.getuid?.() !== 0) return context.skip()
    await using repo = await makeRepo({ files: { a: '1' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    for (const path of ['.git', '']) await chown(join(repo.dir, path), 12345, 12345)
    vi.stubEnv('HOME', '/nonexistent')
    const expected = expect.objectContaining({
      code: 'repository_not_trusted',
      next: expect.stringContaining(`safe.directory '${repo.dir}`),
    })
    await expect(mirror.fetch({ source: repo.dir, commit, signal })).rejects.toEqual(expected)
  })
})

describe('over ssh', () => {
  /** Stands for ssh(1): runs git's command here. `env -u`: a server that knows only protocol 0, as old ones do. */
  const fakeSsh = async (protocol: 'any' | 'old') => {
    const script = `#!/bin/sh\necho "$@" >> ${dir}/asked\nfor last; do :; done\n${protocol === 'old' ? 'unset GIT_PROTOCOL\n' : ''}eval "exec $last"\n`
    await writeFile(join(dir, 'ssh'), script)
    await chmod(join(dir, 'ssh'), 0o755)
    vi.stubEnv('GIT_SSH_COMMAND', join(dir, 'ssh'))
    vi.stubEnv('GIT_SSH_VARIANT', 'ssh')
  }

  test('is never interactive', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    await fakeSsh('any')
    await mirror.fetch({ source: `ssh://host${repo.dir}`, commit: await repo.git('rev-parse', 'HEAD'), signal })
    const { readFile } = await import('node:fs/promises')
    expect(await readFile(join(dir, 'asked'), 'utf8')).toContain('-o BatchMode=yes')
  })

  test('a server that gives no commits by id gives its branches, and says what it lacks', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const first = await repo.git('rev-parse', 'HEAD')
    const second = await repo.commit({ a: '2' })
    await fakeSsh('old')
    const source = `host:${repo.dir}`
    expect(await mirror.fetch({ source, commit: first, branch: 'main', signal })).toEqual({ tip: second })
    expect(await text(mirror, first, 'a')).toBe('1')
    expect(await mirror.fetch({ source, commit: first, signal })).toEqual({})
    await expect(mirror.fetch({ source, commit: 'b'.repeat(40), signal })).rejects.toEqual(code('commit_not_found'))
  })
})

describe('at the same time', () => {
  test('equal requests share one fetch; one that gives up leaves the other alone', async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    await writeFile(join(dir, 'ssh'), `#!/bin/sh\necho x >> ${dir}/asked\nsleep 0.3\nfor last; do :; done\neval "exec $last"\n`, {
      mode: 0o755,
    })
    vi.stubEnv('GIT_SSH_COMMAND', join(dir, 'ssh'))
    const gone = new AbortController()
    const source = `host:${repo.dir}`
    const first = mirror.fetch({ source, commit, branch: 'main', signal: gone.signal })
    const second = mirror.fetch({ source, commit, branch: 'main', signal })
    setTimeout(() => gone.abort(new Error('gave up')), 100)
    await expect(first).rejects.toThrow('gave up')
    expect(await second).toEqual({ tip: commit })
    const { readFile } = await import('node:fs/promises')
    expect(await readFile(join(dir, 'asked'), 'utf8')).toBe('x\n')
  })

  test('an abort ends git and its helpers', async () => {
    await writeFile(join(dir, 'ssh'), `#!/bin/sh\necho $$ > ${dir}/pid\nexec sleep 60\n`, { mode: 0o755 })
    vi.stubEnv('GIT_SSH_COMMAND', join(dir, 'ssh'))
    const stop = new AbortController()
    const fetched = mirror.fetch({ source: 'host:x', commit: 'a'.repeat(40), signal: stop.signal })
    const { readFile } = await import('node:fs/promises')
    const pid = await vi.waitFor(async () => Number.parseInt(await readFile(join(dir, 'pid'), 'utf8'), 10), { timeout: 10_000 })
    stop.abort(new Error('cancelled'))
    await expect(fetched).rejects.toThrow('cancelled')
    // Gone, or a zombie that PID 1 has not collected yet; on a busy machine what was killed needs a processor to die.
    await vi.waitFor(async () => expect(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z ')).toMatch(/\) Z /), {
      timeout: 2_000,
    })
  })

  test('two processes on one new mirror both get their commits', async () => {
    await using repo = await makeRepo({ files: { a: '0' } })
    const commits = await Promise.all([0, 1, 2, 3].map(async (n) => repo.git('commit-tree', 'HEAD^{tree}', '-m', `number ${n}`)))
    const script = join(import.meta.dirname, '../support/fetch-all.ts')
    const runs = [0, 1].map(
      () =>
        new Promise<number | null>((resolve) =>
          fork(script, [mirror.dir, repo.dir, ...commits], { execArgv: [] }).on('exit', (exit) => resolve(exit)),
        ),
    )
    expect(await Promise.all(runs)).toEqual([0, 0])
    for (const commit of commits) expect(await text(mirror, commit, 'a')).toBe('0')
  })

  test("a killed git's lock is broken when it is old", async () => {
    await using repo = await makeRepo({ files: { a: '1' } })
    const commit = await repo.git('rev-parse', 'HEAD')
    await mirror.fetch({ source: repo.dir, commit, branch: 'main', signal })
    const lock = join(mirror.dir, 'refs/bake/branches/main.lock')
    await writeFile(lock, '')
    await utimes(lock, 1, Date.now() / 1000 - 60)
    const next = await repo.commit({ a: '2' })
    expect(await mirror.fetch({ source: repo.dir, commit: next, branch: 'main', signal })).toEqual({ tip: next })
  })
})
