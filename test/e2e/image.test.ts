import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { stopHost } from '../../src/io/host/client.ts'
import { waitFor } from '../../src/wait.ts'
import { makeProject, WEB_FILES } from '../support/project.ts'

const REFERENCE = /^localhost:\d+\/shop\/web@(sha256:[0-9a-f]{64})$/

describe('bake image, from a commit to a digest', () => {
  test('builds, pushes, tags; then finds, tags and rebuilds', async () => {
    await using project = await makeProject()
    const first = await project.repo.git('rev-parse', 'HEAD')

    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    const digest = REFERENCE.exec(built.stdout.trim())?.[1]
    expect(digest).toBeDefined()
    expect(await project.tagged(`sha-${first}`)).toBe(digest)
    expect(await project.tagged('branch-main')).toBe(digest)
    const claims = await project.claims(first)
    expect(claims.entries.map((entry) => entry.state)).toEqual(['claimed', 'published'])
    expect(await project.tagged(`key-${claims.key.slice(0, 20)}-0`)).toBe(digest)

    const again = await project.bake(['image', '--json'])
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(again.stdout)).toMatchObject({
      version: 1,
      commit: first,
      branch: 'main',
      images: [{ image: 'web', status: 'current', digest, tag: `sha-${first}` }],
    })

    const second = await project.repo.commit({ 'README.md': 'changed outside the context\n' })
    const tagged = await project.bake(['image', '--json'])
    expect(JSON.parse(tagged.stdout)).toMatchObject({ images: [{ status: 'tagged', digest, tag: `sha-${second}` }] })
    expect(await project.tagged(`sha-${second}`)).toBe(digest)
    expect((await project.claims(second)).entries).toHaveLength(2)

    const rebuilt = await project.bake(['image', '--rebuild', '--json'])
    const document = JSON.parse(rebuilt.stdout) as { images: { status: string; tag: string; digest: string }[] }
    expect(document, rebuilt.stderr).toMatchObject({ images: [{ status: 'built', tag: `sha-${second}-r4` }] })
    expect((await project.claims(second)).entries.map((entry) => entry.state)).toEqual([
      'claimed',
      'published',
      'withdrawn',
      'claimed',
      'published',
    ])
    expect(await project.tagged(`sha-${second}`)).toBe(digest)
    expect(await project.tagged('branch-main')).toBe(document.images[0]!.digest)
    const after = await project.bake(['image', '--json'])
    expect(JSON.parse(after.stdout)).toMatchObject({
      images: [{ status: 'current', digest: document.images[0]!.digest, tag: `sha-${second}-r4` }],
    })
  })

  test('the commit is fetched while it is found out what is to be built, also when nothing is', async () => {
    await using project = await makeProject()
    const commit = await project.repo.git('rev-parse', 'HEAD')
    await project.bake(['image'])
    const [mirror] = await readdir(join(project.dir, '.bake/mirrors'))
    const inMirror = (...args: string[]) => project.repo.git(`--git-dir=${join(project.dir, '.bake/mirrors', mirror!)}`, ...args)
    await inMirror('update-ref', '-d', `refs/bake/commits/${commit}`)
    expect((await project.bake(['image'])).code).toBe(0)
    const found = async () => (await inMirror('for-each-ref', '--format=%(refname)', 'refs/bake/commits')) || undefined
    expect(await waitFor(found, { what: 'the commit in the mirror', deadlineMs: 10_000, intervalMs: 50 })).toBe(
      `refs/bake/commits/${commit}`,
    )
  })

  test('--dry-run tells the plan and writes nothing', async () => {
    await using project = await makeProject()
    const plan = await project.bake(['image', '--dry-run', '--json'])
    expect(plan, plan.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(plan.stdout)).toMatchObject({
      images: [{ image: 'web', action: 'build', pins: [{ reference: 'localhost/bakehouse/base:bookworm', local: true }] }],
    })
    // Starting the services starts a worker, which beats and tells of itself.
    expect((await project.ledger.list('')).filter((key) => !/^(beats|workers)\//.test(key))).toEqual([])
  })

  test('--no-wait gives the build id; logs --follow, build, builds tell of it', async () => {
    const dockerfile = `FROM localhost/bakehouse/base:bookworm AS base\nRUN echo building ${Math.random()}\nFROM base\nCOPY server.js /app/\n`
    await using project = await makeProject({ ...WEB_FILES, 'web/Dockerfile': dockerfile })
    const asked = await project.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    const id = asked.stdout.trim()
    expect(id).toMatch(/^[0-9a-z]{9}-[0-9a-z]{6}$/)
    const log = await project.bake(['logs', id, '--follow'])
    expect(log, log.stderr).toMatchObject({ code: 0 })
    expect(log.stdout).toMatch(/RUN echo building/)
    expect(log.stdout).toMatch(/\| building/)
    const json = await project.bake(['logs', id, '--json'])
    for (const line of json.stdout.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('type')
    const shown = await project.bake(['build', 'latest', '--json'])
    expect(JSON.parse(shown.stdout)).toMatchObject({ version: 1, build: { build: id, status: 'built', steps: { total: 3 } } })
    const list = await project.bake(['builds'])
    expect(list.stdout).toContain(id)
  })

  test('a failing Dockerfile exits 3 with the step and its output; fixed and retried it builds', async () => {
    await using project = await makeProject({
      ...WEB_FILES,
      'web/Dockerfile': 'FROM localhost/bakehouse/base:bookworm\nCOPY server.js /\nRUN echo about to fail; exit 7\n',
    })
    const failed = await project.bake(['image'])
    expect(failed.code).toBe(3)
    expect(failed.stdout).toBe('')
    expect(failed.stderr).toMatch(/exit code 7/)
    expect(failed.stderr).toMatch(/about to fail/)
    const [record] = await project.builds()
    expect(record).toMatchObject({ status: 'failed', failure: { kind: 'user', code: 'dockerfile_failed', exit: 3 } })
    const retried = await project.bake(['retry', record!.build])
    expect(retried.code).toBe(3)
    expect((await project.claims(record!.commit)).entries.map((entry) => entry.state)).toEqual([
      'claimed',
      'failed',
      'claimed',
      'failed',
    ])
  })

  test('cancel stops a running build', async () => {
    await using project = await makeProject({
      ...WEB_FILES,
      'web/Dockerfile': `FROM localhost/bakehouse/base:bookworm\nCOPY server.js /\nRUN echo sleeping ${Math.random()}; sleep 300\n`,
    })
    await using asking = project.start(['image'])
    await asking.waitFor('stderr', /\| sleeping/)
    const [record] = await project.builds()
    const cancelled = await project.bake(['cancel', record!.build])
    expect(cancelled, cancelled.stderr).toMatchObject({ code: 0 })
    const result = await asking.wait()
    expect(result.code).toBe(3)
    expect(result.stderr).toMatch(/cancelled/)
    expect(await project.builds()).toMatchObject([{ status: 'cancelled' }])
  })

  test('Ctrl-C while following detaches with 130; the build goes on', async () => {
    await using project = await makeProject({
      ...WEB_FILES,
      'web/Dockerfile': `FROM localhost/bakehouse/base:bookworm\nCOPY server.js /\nRUN echo napping ${Math.random()}; sleep 3\n`,
    })
    await using asking = project.start(['image'])
    await asking.waitFor('stderr', /\| napping/)
    asking.kill('SIGINT')
    const result = await asking.wait()
    expect(result.code).toBe(130)
    expect(result.stderr).toMatch(/bake logs \S+ --follow/)
    expect(result.stderr).toMatch(/bake cancel/)
    const followed = await project.bake(['logs', 'latest', '--follow'])
    expect(followed.code).toBe(0)
    expect(await project.builds()).toMatchObject([{ status: 'built' }])
  })

  test('two who ask at once share the host and one build', async () => {
    await using project = await makeProject({
      ...WEB_FILES,
      'web/Dockerfile': `FROM localhost/bakehouse/base:bookworm\nCOPY server.js /\nRUN echo ${Math.random()}; sleep 1\n`,
    })
    const both = await Promise.all([project.bake(['image']), project.bake(['image'])])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    expect(both[0]!.stdout).toBe(both[1]!.stdout)
    const [record] = await project.builds()
    expect((await project.claims(record!.commit)).entries.map((entry) => entry.state)).toEqual(['claimed', 'published'])
    expect((await project.builds()).map(({ status }) => status).sort()).toEqual(['built', 'tagged'])
  })

  test('a manifest deleted from the registry is withdrawn and built again', async () => {
    await using project = await makeProject()
    const first = await project.bake(['image'])
    const digest = REFERENCE.exec(first.stdout.trim())![1]!
    const { registry } = (await project.host())!
    const deleted = await fetch(`http://${registry}/v2/shop/web/manifests/${digest}`, { method: 'DELETE' })
    expect(deleted.status).toBe(202)
    const again = await project.bake(['image'])
    expect(again, again.stderr).toMatchObject({ code: 0 })
    const [record] = await project.builds()
    const claims = await project.claims(record!.commit)
    expect(claims.entries.map((entry) => entry.state)).toEqual(['claimed', 'published', 'withdrawn', 'claimed', 'published'])
    expect(await project.tagged(`sha-${record!.commit}`)).toBe(REFERENCE.exec(again.stdout.trim())![1])
  })

  test('branch tags only move forward: an older commit that ends later, a force-push', async () => {
    await using project = await makeProject()
    const older = await project.repo.git('rev-parse', 'HEAD')
    const newer = await project.repo.commit({ 'web/server.js': 'console.log(2)\n' })
    expect((await project.bake(['image', '--branch', 'main'])).code).toBe(0)
    const head = await project.tagged(`sha-${newer}`)
    // The older commit was asked for while it was the tip, and is built only now.
    await project.repo.git('update-ref', 'refs/heads/main', older)
    const late = project.start(['image', '--branch', 'main'], { env: { BAKE_FAILPOINT: '' } })
    expect((await late.wait()).code).toBe(0)
    expect(await project.tagged('branch-main')).toBe(head)
    // A force-push leaves `newer` behind: what the new tip has goes onto the branch.
    await project.repo.git('reset', '-q', '--hard', older)
    const forced = await project.repo.commit({ 'web/server.js': 'console.log(3)\n' })
    expect((await project.bake(['image', '--branch', 'main'])).code).toBe(0)
    expect(await project.tagged('branch-main')).toBe(await project.tagged(`sha-${forced}`))
  })

  test('a project in a part of its repository, run from a directory below it', async () => {
    await using project = await makeProject({
      'bake.yaml': 'project: other\nimages:\n  other: { context: . }\n',
      'services/shop/bake.yaml': 'project: shop\nimages:\n  web: { context: web }\n',
      'services/shop/web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
      'services/shop/web/server.js': `${Math.random()}\n`,
    })
    const built = await project.bake(['image'], { cwd: `${project.dir}/services/shop/web` })
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stdout.trim()).toMatch(REFERENCE)
    await stopHost(`${project.dir}/services/shop/.bake`)
  })

  test('--rebuild runs every step anew, and so does the first build of a max_age period; what follows uses the cache', async () => {
    const dockerfile = (extra = '') =>
      `FROM localhost/bakehouse/base:bookworm\nRUN date +%s%N > /made-${Math.random()}\nCOPY server.js /${extra}\n`
    await using project = await makeProject({
      ...WEB_FILES,
      'bake.yaml': 'project: shop\nimages:\n  web: { context: web, max_age: 100d }\n',
      'web/Dockerfile': dockerfile(),
    })
    // Not how many were cached: whether the base counts hangs on what other builds left on this machine.
    const run = async (...args: string[]) => {
      const asked = await project.bake(['image', '--json', ...args])
      expect(asked, asked.stderr).toMatchObject({ code: 0 })
      const told = asked.stderr
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { event?: { type: string; name: string; state: string } }).event)
      return told.findLast((event) => event?.type === 'step' && event.name.includes('] RUN date'))?.state
    }
    expect(await run()).toBe('done')
    await project.repo.commit({ 'web/server.js': `console.log(${Math.random()})\n` })
    expect(await run()).toBe('cached')
    expect(await run('--rebuild')).toBe('done')
  })
})
