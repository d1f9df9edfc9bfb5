import { execFileSync, fork } from 'node:child_process'
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Mirror } from '../../src/io/mirror.ts'
import { WorkTree } from '../../src/io/work-tree.ts'
import { git, makeRepo, type TestRepo, writeFiles } from '../support/repo.ts'
import { snapshot } from '../support/snapshot.ts'

const { signal } = new AbortController()
const plain = { submodules: false, lfs: false, signal }
let dir: string
let repo: TestRepo
let mirror: Mirror
let tree: WorkTree
let first: string

const files = {
  'a.txt': 'one\n',
  'dir/b': 'two\n',
  'dir/deep/c': 'three\n',
  run: { executable: '#!/bin/sh\n' },
  link: { link: 'dir/b' },
  '-rf': 'dash',
  'line\nbreak "ü"': 'odd',
}
const inTree = (path: string) => join(tree.dir, path)

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-tree-'))
  repo = await makeRepo({ files })
  first = await repo.git('rev-parse', 'HEAD')
  mirror = new Mirror(join(dir, 'mirrors/shop.git'), { allowLocal: true })
  tree = new WorkTree({ mirror, dir: join(dir, 'slot/tree'), index: join(dir, 'slot/index') })
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await mirror.close()
  await repo[Symbol.asyncDispose]()
  await rm(dir, { recursive: true, force: true })
})

/** Fetches and moves there. */
async function moveTo(commit: string, options = plain, which = tree) {
  await mirror.fetch({ source: repo.dir, commit, signal })
  await which.move(commit, options)
}

/** git compares times in whole seconds (Makefile, USE_NSEC) and of modes only the owner's x. */
const aSecondLater = () => sleep(1100)

/** What a tree that never held anything else looks like at `commit`. */
async function pristine(commit: string, options = plain) {
  const fresh = await mkdtemp(join(dir, 'fresh-'))
  await moveTo(commit, options, new WorkTree({ mirror, dir: join(fresh, 'tree'), index: join(fresh, 'index') }))
  return snapshot(join(fresh, 'tree'))
}

describe('moving', () => {
  test('writes files, executables and links with fixed modes, whatever the umask, and nothing of git', async () => {
    const umask = process.umask(0o077)
    await moveTo(first).finally(() => process.umask(umask))
    expect(await snapshot(tree.dir)).toEqual({
      'a.txt': 'file 644 one\n',
      dir: 'directory 755',
      'dir/b': 'file 644 two\n',
      'dir/deep': 'directory 755',
      'dir/deep/c': 'file 644 three\n',
      run: 'file 755 #!/bin/sh\n',
      link: 'link dir/b',
      '-rf': 'file 644 dash',
      [Buffer.from('line\nbreak "ü"').toString()]: 'file 644 odd',
    })
    expect((await stat(tree.dir)).mode & 0o777).toBe(0o755)
  })

  test('touches only what differs, and never the mirror’s HEAD', async () => {
    await moveTo(first)
    const head = await readFile(join(mirror.dir, 'HEAD'), 'utf8')
    const before = await stat(inTree('dir/b'), { bigint: true })
    const second = await repo.commit({ 'a.txt': 'changed\n', 'dir/deep': null, new: 'new' })
    await moveTo(second)
    expect(await snapshot(tree.dir)).toEqual(await pristine(second))
    const after = await stat(inTree('dir/b'), { bigint: true })
    expect([after.ino, after.mtimeNs, after.ctimeNs]).toEqual([before.ino, before.mtimeNs, before.ctimeNs])
    await moveTo(first)
    expect(await snapshot(tree.dir)).toEqual(await pristine(first))
    expect(await readFile(join(mirror.dir, 'HEAD'), 'utf8')).toBe(head)
  })

  test('swaps files, directories and links of one name', async () => {
    const commits = [
      first,
      await repo.commit({ dir: 'now a file', 'a.txt': null, 'a.txt/inside': 'now a directory' }),
      await repo.commit({ dir: { link: '/etc' }, run: 'no executable any more' }),
      await repo.commit({ dir: null, 'dir/passwd': 'ours' }),
    ]
    const passwd = await readFile('/etc/passwd')
    for (const commit of [...commits, ...commits.toReversed()]) {
      await moveTo(commit)
      expect(await snapshot(tree.dir)).toEqual(await pristine(commit))
    }
    expect(await readFile('/etc/passwd')).toEqual(passwd)
  })

  test('two slots of one mirror move at once', async () => {
    const second = await repo.commit({ 'a.txt': 'changed\n', 'dir/b': null })
    await mirror.fetch({ source: repo.dir, commit: second, signal })
    await mirror.fetch({ source: repo.dir, commit: first, signal })
    const other = new WorkTree({ mirror, dir: join(dir, 'slot2/tree'), index: join(dir, 'slot2/index') })
    for (let n = 0; n < 3; n++)
      await Promise.all([tree.move(first, plain), other.move(second, plain), tree.move(second, plain), other.move(first, plain)])
    expect(await snapshot(tree.dir)).toEqual(await pristine(second))
    expect(await snapshot(other.dir)).toEqual(await pristine(first))
  })

  test('works on SHA-256 repositories', async () => {
    await using modern = await makeRepo({ objectFormat: 'sha256', files: { a: '1', b: '2' } })
    await using its = new Mirror(join(dir, 'mirrors/modern.git'), { allowLocal: true })
    const slot = new WorkTree({ mirror: its, dir: join(dir, 'modern/tree'), index: join(dir, 'modern/index') })
    for (const commit of [await modern.git('rev-parse', 'HEAD'), await modern.commit({ a: '3' })]) {
      await its.fetch({ source: modern.dir, commit, signal })
      await slot.move(commit, plain)
    }
    expect(await snapshot(slot.dir)).toEqual({ a: 'file 644 3', b: 'file 644 2' })
  })

  test('an aborted move throws the reason', async () => {
    await mirror.fetch({ source: repo.dir, commit: first, signal })
    const stop = new AbortController()
    const moved = tree.move(first, { ...plain, signal: stop.signal })
    stop.abort(new Error('lease lost'))
    await expect(moved).rejects.toThrow('lease lost')
    await tree.move(first, plain)
    expect(await snapshot(tree.dir)).toEqual(await pristine(first))
  })
})

describe('the same bytes everywhere', () => {
  test("ignores the user's and the machine's git settings and attributes", async () => {
    const commit = await repo.commit({ 'crlf.txt': 'one\r\ntwo\r\n', 'lf.txt': 'one\ntwo\n' })
    const home = join(dir, 'home')
    await writeFiles(home, {
      '.gitconfig': `[core]\n\tautocrlf = true\n\tsymlinks = false\n\tfileMode = false\n\thooksPath = ${home}/hooks\n[filter "shout"]\n\tsmudge = tr a-z A-Z\n`,
      '.config/git/attributes': '* filter=shout text eol=crlf\n',
      '.config/git/ignore': '*\n',
      'hooks/post-index-change': { executable: `#!/bin/sh\ntouch ${home}/hooked\n` },
      'hooks/reference-transaction': { executable: `#!/bin/sh\ntouch ${home}/hooked\n` },
    })
    vi.stubEnv('HOME', home)
    vi.stubEnv('XDG_CONFIG_HOME', undefined)
    vi.stubEnv('GIT_CONFIG_GLOBAL', undefined)
    vi.stubEnv('GIT_CONFIG_COUNT', '1')
    vi.stubEnv('GIT_CONFIG_KEY_0', 'core.autocrlf')
    vi.stubEnv('GIT_CONFIG_VALUE_0', 'true')
    await moveTo(commit)
    expect(await snapshot(tree.dir)).toMatchObject({
      'crlf.txt': 'file 644 one\r\ntwo\r\n',
      'lf.txt': 'file 644 one\ntwo\n',
      link: 'link dir/b',
      run: 'file 755 #!/bin/sh\n',
    })
    await expect(stat(join(home, 'hooked'))).rejects.toThrow('ENOENT')
  })

  test('a change of attributes anywhere rewrites files that did not change themselves', async () => {
    await moveTo(first)
    const crlf = await repo.commit({ 'dir/.gitattributes': 'b text eol=crlf\n' })
    await moveTo(crlf)
    expect(await readFile(inTree('dir/b'), 'utf8')).toBe('two\r\n')
    const next = await repo.commit({ 'dir/.gitattributes': null })
    await moveTo(next)
    expect(await readFile(inTree('dir/b'), 'utf8')).toBe('two\n')
  })

  test('attributes of a move that was interrupted count too', async () => {
    await moveTo(first)
    const crlf = await repo.commit({ '.gitattributes': '*.txt text eol=crlf\n' })
    await mirror.fetch({ source: repo.dir, commit: crlf, signal })
    const state = `${join(dir, 'slot/index')}.state.json`
    const before = JSON.parse(await readFile(state, 'utf8'))
    await tree.move(crlf, plain)
    // As if the worker had been killed before the last line of the move.
    await writeFile(state, JSON.stringify({ ...before, commits: [first, crlf] }))
    await tree.move(first, plain)
    expect(await readFile(inTree('a.txt'), 'utf8')).toBe('one\n')
  })
})

describe('repairing', () => {
  const damage: Record<string, () => Promise<unknown> | unknown> = {
    'a changed file': () => writeFile(inTree('a.txt'), 'ONE\n'),
    'a file of the same size and time': async () => {
      const { atime, mtime } = await stat(inTree('a.txt'))
      await writeFile(inTree('a.txt'), 'eno\n')
      const { utimes } = await import('node:fs/promises')
      await utimes(inTree('a.txt'), atime, mtime)
    },
    'a removed file': () => rm(inTree('dir/b')),
    'a removed directory': () => rm(inTree('dir'), { recursive: true }),
    'a removed tree': () => rm(tree.dir, { recursive: true }),
    'an executable bit': () => chmod(inTree('a.txt'), 0o755),
    'a file that others may write': async () => {
      await aSecondLater()
      await chmod(inTree('a.txt'), 0o666)
    },
    'a file that nobody may read': async () => {
      await aSecondLater()
      await chmod(inTree('a.txt'), 0o000)
    },
    'odd modes of directories': () =>
      Promise.all([chmod(inTree('dir'), 0o2777), chmod(tree.dir, 0o700), chmod(inTree('dir/deep'), 0o000)]),
    'ignored and untracked files': () =>
      writeFiles(tree.dir, { '.gitignore': '*', 'dir/node_modules/x/y': 'x', '-z': 'x', 'new\nline': 'x' }),
    'an empty directory': () => mkdir(inTree('dir/empty/er'), { recursive: true }),
    'a repository inside': () => git(tree.dir, 'init', '-q', 'dir/nested'),
    'a .git directory': () => git(tree.dir, 'init', '-q'),
    'what a root build writes': async () => {
      await writeFiles(tree.dir, { 'out/x/y': 'x', 'out/z': 'x' })
      await chmod(inTree('out/x'), 0o000)
      await chmod(inTree('out'), 0o500)
    },
    'a stray .gitattributes': () =>
      writeFiles(tree.dir, { '.gitattributes': '* text eol=crlf', 'dir/deep/.gitattributes': '* text eol=crlf', 'a.txt': null }),
    'a .git file deeper down': () => writeFiles(tree.dir, { 'dir/.git': 'gitdir: /etc' }),
    'a FIFO': () => execFileSync('mkfifo', [inTree('fifo'), inTree('dir/fifo')]),
    'a directory replaced by a link that leads out': async () => {
      await rm(inTree('dir'), { recursive: true })
      await mkdir(join(dir, 'outside/deep'), { recursive: true })
      await writeFile(join(dir, 'outside/b'), 'outside')
      await symlink(join(dir, 'outside'), inTree('dir'))
    },
    'a stale index.lock': () => writeFile(join(dir, 'slot/index.lock'), ''),
    'a truncated index': () => truncate(join(dir, 'slot/index'), 200),
    'an empty index': () => truncate(join(dir, 'slot/index'), 0),
    'garbage after the index': () => appendFile(join(dir, 'slot/index'), 'garbage'),
    'no index': () => rm(join(dir, 'slot/index')),
    'no state': () => rm(join(dir, 'slot/index.state.json')),
    'a damaged state': () => writeFile(join(dir, 'slot/index.state.json'), '{"commits":'),
  }

  test.each(Object.keys(damage))('%s', async (name) => {
    await moveTo(first)
    const expected = await pristine(first)
    await damage[name]?.()
    if (name.startsWith('a file') || name.startsWith('a removed')) expect(await snapshot(dir)).not.toEqual(expected)
    await moveTo(first)
    expect(await snapshot(tree.dir)).toEqual(expected)
    expect((await stat(tree.dir)).mode & 0o777).toBe(0o755)
    if (name.endsWith('leads out')) expect(await readFile(join(dir, 'outside/b'), 'utf8')).toBe('outside')
  })

  test('an index entry that would pass for written', async () => {
    await moveTo(first)
    const second = await repo.commit({ 'a.txt': 'two\n' })
    const index = join(dir, 'slot/index')
    const bytes = await readFile(index)
    // The flags of an entry stand before its name; the top bit is assume-valid.
    const flags = bytes.indexOf('a.txt') - 2
    bytes[flags] = (bytes[flags] ?? 0) | 0x80
    await writeFile(index, bytes)
    await writeFile(inTree('a.txt'), 'changed')
    await moveTo(second)
    expect(await snapshot(tree.dir)).toEqual(await pristine(second))
  })

  test('a worker that is killed at any time leaves nothing running, and the next move is right', {
    timeout: 300_000,
  }, async () => {
    const many = Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`many/${n % 7}/${n}`, `${n}\n`.repeat(n)]))
    const second = await repo.commit({ ...many, 'a.txt': 'x', dir: null })
    const third = await repo.commit({
      ...Object.fromEntries(Object.keys(many).map((path) => [path, 'short'])),
      '.gitattributes': '*.txt eol=crlf',
    })
    for (const commit of [first, second, third]) await mirror.fetch({ source: repo.dir, commit, signal })
    const script = join(import.meta.dirname, '../support/move-tree.ts')
    const commits = [second, first, third]
    for (let round = 0; round < 12; round++) {
      const worker = fork(script, [mirror.dir, tree.dir, join(dir, 'slot/index'), ...commits], { execArgv: [] })
      await new Promise((resolve) => worker.once('message', resolve))
      await sleep(round * 17)
      const gone = new Promise((resolve) => worker.once('exit', resolve))
      worker.kill('SIGKILL')
      await gone
      const commit = [first, second, third][round % 3] as string
      await tree.move(commit, plain)
      expect(await snapshot(tree.dir)).toEqual(await pristine(commit))
    }
    expect(
      execFileSync('ps', ['-eo', 'stat,args'], { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line.includes(`--work-tree=${tree.dir}`) && !line.startsWith('Z')),
    ).toEqual([])
  })
})
