import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BadProject, badProject, expectError, expectNothingLeft, expectUntouched, yaml } from '../support/bad-input.ts'
import { runBake } from '../support/bake.ts'
import { WEB_FILES } from '../support/project.ts'
import { git, makeRepo } from '../support/repo.ts'

describe('a commit that can not be named', () => {
  let project: BadProject
  beforeAll(async () => {
    project = await badProject()
  })
  afterAll(() => project[Symbol.asyncDispose]())

  test.for([
    [['--sha', 'deadbeefdeadbeef'], /commit deadbeefdeadbeef is not in this checkout/, /git fetch --all.*git log/],
    [['--sha', 'de'.repeat(20)], /commit (de){20} is not in this checkout/, /git fetch --all/],
    [['--sha', 'main'], /"main" is not a commit id/, /--branch or --tag/],
    [['--sha', 'abc'], /"abc" is not a commit id: 4 to 64 hex digits/, /--branch or --tag/],
    [['--sha=--help'], /"--help" is not a commit id/, /--branch or --tag/],
    [['--sha', 'HEAD~1'], /"HEAD~1" is not a commit id/, /--branch or --tag/],
    [['--branch', 'mian'], /no branch "mian"/, /did you mean main\?/],
    [['--branch=--upload-pack=touch pwned'], /"--upload-pack=touch pwned" is not a legal branch name/, /git branch --list/],
    [['--branch', '-d'], /"-d" is not a legal branch name/, /git branch --list/],
    [['--branch', 'main..main'], /not a legal branch name/, /git branch --list/],
    [['--sha', 'abcd', '--branch', 'main..main'], /not a legal branch name/, /git branch --list/],
    [['--tag', 'v1'], /no tag "v1"/, /git tag --list/],
    [['--tag=-d'], /"-d" is not a legal tag name/, /git tag --list/],
    [['--sha', 'abcd', '--tag', 'v1'], /--(sha|tag) and --(sha|tag) can't be given together/, /bake image --help/],
  ] as const)('bake image %j is refused with 2', async ([args, error, next]) => {
    expectError(await project.bake(['image', ...args]), { exit: 2, error, next })
    await expectUntouched(project)
    expect(await project.host(), 'no host is started for it').toBeUndefined()
  })

  test('a short SHA that several commits begin with lists them', async () => {
    const prefix = await manyCommits(project.dir)
    const result = await project.bake(['image', '--sha', prefix.digits])
    expectError(result, { exit: 2, error: new RegExp(`commit ${prefix.digits} could be any of`), next: /more digits/ })
    for (const commit of prefix.commits)
      expect(result.stderr).toMatch(new RegExp(`^ {2}${commit.slice(0, 12)} commit \\d+$`, 'm'))
    await expectUntouched(project)
  })

  test('a commit without bake.yaml', async () => {
    const commit = await project.change({ 'bake.yaml': null })
    await writeFile(join(project.dir, 'bake.yaml'), WEB_FILES['bake.yaml'] as string)
    const result = await project.bake(['image'])
    expectError(result, {
      exit: 2,
      error: new RegExp(`commit ${commit.slice(0, 12)} has no bake.yaml`),
      next: /git add bake.yaml/,
    })
    await expectUntouched(project)
  })
})

describe('a place that is no checkout', () => {
  test.for([
    ['no repository', [], /is not in a git repository/, /git init and commit/],
    ['a repository without a commit', ['init', '-q'], /has no commit yet/, /git commit/],
  ] as const)('%s', async ([_, init, error, next]) => {
    const dir = await mkdtemp(join(tmpdir(), 'bake-place-'))
    try {
      if (init.length > 0) await git(dir, ...init)
      await writeFile(join(dir, 'bake.yaml'), yaml('{}'))
      // Several times: it once ended without a word, when git was gone before it was asked to go.
      for (const result of await Promise.all([1, 2, 3, 4].map(() => runBake(['image'], { cwd: dir }))))
        expectError(result, { exit: 2, error, next })
    } finally {
      await rm(dir, { recursive: true })
    }
  })

  test('a bare repository', async () => {
    await using repo = await makeRepo({ files: WEB_FILES })
    const bare = `${repo.dir}-bare`
    try {
      await repo.git('clone', '-q', '--bare', repo.dir, bare)
      expectError(await runBake(['image'], { cwd: bare }), { exit: 2, error: /is a bare repository/, next: /git clone it/ })
    } finally {
      await rm(bare, { recursive: true, force: true })
    }
  })
})

test('a dirty work tree: the commit is built, and a warning says what is not in it', async () => {
  await using project = await badProject()
  const commit = await project.change({ 'web/server.js': 'console.log("committed")\n' })
  await writeFile(join(project.dir, 'web/server.js'), 'console.log("not committed")\n')
  await writeFile(join(project.dir, 'web/new.js'), '')
  const result = await project.bake(['image'])
  expect(result, result.stderr).toMatchObject({ code: 0 })
  expect(result.stderr).toMatch(
    new RegExp(`warning: commit ${commit.slice(0, 12)} is what gets built.*not in it: web/server.js, web/new.js`),
  )
  const clean = await project.bake(['image', '--sha', commit])
  expect(clean.stdout).toBe(result.stdout)
  expect(clean.stderr).not.toMatch(/uncommitted/)
  await expectNothingLeft(project)
})

test('retry of a build whose commit is gone', async () => {
  await using project = await badProject()
  await project.change({ 'web/server.js': 'console.log("gone soon")\n' })
  expect((await project.bake(['image'])).code).toBe(0)
  const [build] = await project.builds()
  await project.repo.git('reset', '-q', '--hard', 'HEAD~1')
  await project.repo.git('-c', 'gc.reflogExpire=now', 'reflog', 'expire', '--expire=now', '--all')
  await project.repo.git('prune', '--expire=now')
  const result = await project.bake(['retry', build!.build])
  expectError(result, { exit: 2, error: new RegExp(`commit ${build!.commit} is not in this checkout`), next: /git fetch/ })
  expect(await project.builds()).toHaveLength(1)
  await expectNothingLeft(project)
})

const LFS = {
  'web/.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n',
  'web/data.bin': `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 5\n`,
}

describe('a context that git alone does not complete', () => {
  test('LFS pointers are refused with the setting', async () => {
    await using project = await badProject()
    const error = /web\/data.bin is a Git LFS pointer/
    expectError(await project.image(LFS), { exit: 2, error, next: /images.web.lfs: true/ })
    await expectUntouched(project)
  })

  test('a submodule is refused with the setting, and built with it', async () => {
    await using other = await makeRepo({ files: { 'lib.js': 'export {}\n' } })
    await using project = await badProject()
    await project.repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', other.dir, 'web/lib')
    await project.repo.commit({})
    const refused = await project.bake(['image'])
    expectError(refused, { exit: 2, error: /submodule web\/lib.*would be empty/, next: /images.web.submodules: true/ })
    await expectUntouched(project)

    await project.repo.commit({
      'bake.yaml': yaml('{ context: web, submodules: true }'),
      'web/Dockerfile': `${WEB_FILES['web/Dockerfile']}COPY lib/lib.js /app/lib.js\n`,
    })
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    await expectNothingLeft(project)
  })
})

/** So many commits that two of them share four digits (the birthday problem: 1,200 in 65,536), always the same ones. */
async function manyCommits(dir: string): Promise<{ digits: string; commits: string[] }> {
  const stream = Array.from({ length: 1200 }, (_, n) => {
    const message = `commit ${n}`
    return `commit refs/heads/many\ncommitter Ann Author <ann@example.com> ${1_700_000_000 + n} +0000\ndata ${message.length}\n${message}\n`
  })
  await new Promise<void>((resolve, reject) => {
    const child = execFile('git', ['fast-import', '--quiet'], { cwd: dir }, (error) => (error ? reject(error) : resolve()))
    child.stdin?.end(stream.join(''))
  })
  const commits = (await git(dir, 'rev-list', 'many')).split('\n')
  const groups = Map.groupBy(commits, (commit) => commit.slice(0, 4))
  const [digits, same] = [...groups].find(([, group]) => group.length > 1)!
  return { digits, commits: same }
}
