import { readdir, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commitDocumentSchema, imageDocumentSchema, read, readBuild } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { type BadProject, badProject, expectError, expectNothingLeft } from '../support/bad-input.ts'

/** As a disk that ran full or lost its power leaves a file behind: its beginning. */
const damage = (project: BadProject, key: string) => truncate(join(project.dir, '.bake/ledger', key), 20)

/** A project with one published image; its commit and key. */
async function published(): Promise<{ project: BadProject; commit: string; key: string; line: string }> {
  const project = await badProject()
  const commit = await project.repo.git('rev-parse', 'HEAD')
  const { code, stdout, stderr } = await project.bake(['image'])
  expect({ code }, stderr).toEqual({ code: 0 })
  const { key } = (await read(project.ledger, keys.commit(commit, 'web'), commitDocumentSchema))!
  return { project, commit, key, line: stdout }
}

/** A commit of the same image key. */
const untouchedContext = (project: BadProject) => project.change({ 'README.md': `${Math.random()}\n` })

describe('the copy images/<key>', () => {
  test('damaged: the claim log is read, and the copy is written anew', async () => {
    const { project, key, line } = await published()
    await using _ = project
    await damage(project, keys.image(key))
    const again = await project.bake(['image'])
    expect(again, again.stderr).toMatchObject({ code: 0, stdout: line })

    await untouchedContext(project)
    const tagged = await project.bake(['image'])
    expect(tagged, tagged.stderr).toMatchObject({ code: 0, stdout: line })
    expect(await read(project.ledger, keys.image(key), imageDocumentSchema)).toMatchObject({ n: 1 })
    expect(await project.ledger.list(keys.claims(key))).toHaveLength(2)
    await expectNothingLeft(project)
  })
})

describe('an entry of the claim log', () => {
  test.for([0, 1])('entry %i damaged: the worker gives up at once with 4, and nothing is published', async (n) => {
    const { project, key } = await published()
    await using _ = project
    await damage(project, keys.claim(key, n))
    const commit = await untouchedContext(project)
    const started = performance.now()
    const result = await project.bake(['image'])
    expectError(result, {
      exit: 4,
      error: new RegExp(`claim log entry ${keys.claim(key, n)} is damaged`),
      next: /restore that entry/,
    })
    expect(performance.now() - started).toBeLessThan(8_000)
    expect(await project.tagged(`sha-${commit}`)).toBeUndefined()
    expect(await project.ledger.list(keys.claims(key))).toHaveLength(2)
    expect((await project.builds())[0]).toMatchObject({ status: 'failed', failure: { code: 'ledger_damaged' } })
    await expectNothingLeft(project)
  })

  test('damaged with its copy gone: refused before anything is queued', async () => {
    const { project, key } = await published()
    await using _ = project
    await damage(project, keys.claim(key, 1))
    await rm(join(project.dir, '.bake/ledger', keys.image(key)))
    const before = await project.builds()
    const result = await project.bake(['image'])
    expectError(result, { exit: 4, error: /claims\/.* is damaged/, next: /restore that entry from a backup/ })
    expect(await project.builds()).toEqual(before)
    await expectNothingLeft(project)
  })
})

test('commits/<sha>/<image> damaged: an error that names the file; moved away, the commit is found again', async () => {
  const { project, commit, line } = await published()
  await using _ = project
  const at = keys.commit(commit, 'web')
  await damage(project, at)
  const result = await project.bake(['image'])
  expectError(result, { exit: 4, error: new RegExp(`${at} is damaged`), next: new RegExp(`move .*/${at} out of the ledger`) })
  await expectNothingLeft(project)

  await rm(join(project.dir, '.bake/ledger', at))
  const again = await project.bake(['image'])
  expect(again, again.stderr).toMatchObject({ code: 0, stdout: line })
  expect(await project.builds()).toHaveLength(1)
})

test("the head of a branch's log damaged: exit 4, and no tag moves", async () => {
  const { project, commit } = await published()
  await using _ = project
  const head = await project.tagged('branch-main')
  await damage(project, keys.branch('web', 'main', 0))
  await project.change({ 'web/server.js': 'console.log("next")\n' })
  const result = await project.bake(['image'])
  expectError(result, { exit: 4, error: /branches\/web\/main\/0+ is damaged/, next: /out of the ledger/ })
  expect(await project.tagged('branch-main')).toBe(head)
  expect(await project.tagged(`sha-${commit}`)).toBe(head)
  await expectNothingLeft(project)
})

describe('the record of a build', () => {
  test('damaged: builds lists the others with a warning, build, logs, cancel and retry say what is wrong', async () => {
    const { project } = await published()
    await using _ = project
    const [first] = await project.builds()
    await project.change({ 'web/server.js': 'console.log("second")\n' })
    expect((await project.bake(['image'])).code).toBe(0)
    const [second] = await project.builds()
    await damage(project, keys.build(first!.build))

    const list = await project.bake(['builds'])
    expect(list).toMatchObject({ code: 0 })
    expect(list.stderr).toMatch(/^warning: 1 build record is damaged and left out/m)
    expect(list.stdout).toContain(second!.build)
    expect(list.stdout).not.toContain(first!.build)
    for (const command of ['build', 'logs', 'cancel', 'retry']) {
      const result = await project.bake([command, first!.build])
      expectError(result, { exit: 4, error: new RegExp(`builds/${first!.build} is damaged`), next: /out of the ledger/ })
    }
    await expectNothingLeft(project)
  })

  test('damaged while it is queued: the job carries all of it, and is done', async () => {
    await using project = await badProject(undefined, { BAKE_DEFAULT_WORKER: '0' })
    const asked = await project.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    const build = asked.stdout.trim()
    await damage(project, keys.build(build))
    const worker = await project.bake(['worker', '--once'])
    expect(worker, worker.stderr).toMatchObject({ code: 0 })
    expect(await readBuild(project.ledger, build)).toMatchObject({ status: 'built', branch: 'main' })
    await expectNothingLeft(project)
  })
})

test('a log chunk damaged: the rest of the log is printed', async () => {
  const { project } = await published()
  await using _ = project
  const [record] = await project.builds()
  const log = keys.log(record!.build, record!.claim!)
  const chunks = await readdir(join(project.dir, '.bake/ledger', log))
  await damage(project, `${log}/${chunks.sort()[0]}`)
  const result = await project.bake(['logs', 'latest'])
  expect(result, result.stderr).toMatchObject({ code: 0 })
  expect(result.stdout).toMatch(/1 damaged log entry is left out/)
  expect(result.stdout).toMatch(/publishing on local\ntagging on local\n$/)
})
