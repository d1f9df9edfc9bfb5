import { describe, expect, test, vi } from 'vitest'
import type { RunningBake } from '../support/bake.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'
import { openRawQueue } from '../support/queue.ts'

// Several processes each, on a machine that has other work too.
vi.setConfig({ testTimeout: 120_000 })

const env = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '3', BAKE_VISIBILITY_SECONDS: '5', BAKE_HOST_LINGER_MS: '30000' }
const files = {
  ...WEB_FILES,
  'bake.yaml': 'project: shop\nimages:\n  web: { context: web }\nfleet: { supersede: true }\n',
  'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
}

/** Puts a build of HEAD on the queue; its id. */
async function queue(project: TestProject, ...args: string[]): Promise<string> {
  const asked = await project.bake(['image', '--no-wait', ...args])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  return asked.stdout.trim()
}

const change = (project: TestProject, text: string) => project.repo.commit({ 'web/server.js': `// ${text} ${Math.random()}\n` })

/** Works on everything that is queued, one after the other. */
async function work(project: TestProject) {
  await using worker: RunningBake = project.start(['worker', '--slots', '1'])
  await worker.waitFor('stderr', /is ready/)
  await using raw = await openRawQueue(project.dir)
  for (;;) {
    const { visible, inFlight, delayed } = await raw.depth()
    const open = (await project.builds()).filter(({ endedAt }) => endedAt === undefined)
    if (visible + inFlight + delayed + open.length === 0) break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  expect((await raw.depth()).dead).toBe(0)
  worker.kill('SIGTERM')
  expect((await worker.wait()).code).toBe(0)
}

/** By build id. */
const statuses = async (project: TestProject) =>
  Object.fromEntries((await project.builds()).map(({ build, status }) => [build, status]))

describe('queued builds of one branch with fleet: { supersede: true }', () => {
  test('give way to the newest commit: it is built, their followers are told which', async () => {
    await using project = await makeProject(files, env)
    const commits = [await project.repo.git('rev-parse', 'HEAD')]
    const first = await queue(project)
    commits.push(await change(project, 'two'))
    await using following = project.start(['image', '--json'])
    await following.waitFor('stderr', /"phase":"queued"/)
    commits.push(await change(project, 'three'))
    const third = await queue(project)
    await work(project)
    const second = (await project.builds()).find(({ commit }) => commit === commits[1])!.build
    expect(await statuses(project)).toEqual({ [first]: 'superseded', [second]: 'superseded', [third]: 'built' })
    const told = await following.wait()
    expect(told.code).toBe(3)
    expect(JSON.parse(told.stdout)).toMatchObject({
      images: [{ image: 'web', build: second, status: 'superseded', supersededBy: third }],
      error: {
        code: 'superseded',
        exit: 3,
        message: expect.stringContaining(`build ${third} has a newer commit of main, ${commits[2]!.slice(0, 12)}`),
        next: expect.stringContaining(`bake retry ${second}`),
      },
    })
    expect(await project.tagged(`sha-${commits[0]}`)).toBeUndefined()
    expect(await project.tagged(`sha-${commits[1]}`)).toBeUndefined()
    expect(await project.tagged('branch-main')).toBe(await project.tagged(`sha-${commits[2]}`))
    expect(await project.ledger.list(`claims/`)).toHaveLength(2)

    const listed = await project.bake(['builds', '--status', 'superseded'])
    expect(listed.stdout).toMatch(new RegExp(`${second}.*superseded[^]*${first}.*superseded`))
    // Wanted all the same: what was there when it was asked for takes no place of its.
    const retried = await queue(project, '--sha', commits[0]!)
    const kept = await project.bake(['retry', second, '--no-wait'])
    await work(project)
    expect(await statuses(project)).toMatchObject({ [retried]: 'built', [kept.stdout.trim()]: 'built' })
    expect(await project.tagged('branch-main')).toBe(await project.tagged(`sha-${commits[2]}`))
  })

  test('a running one is finished; a rebuild, another branch, a bare commit and a cancelled newer ask take or lose no place', async () => {
    await using project = await makeProject(files, env)
    // Held before its claim is published, while newer commits are asked for.
    await using slow = project.start(['worker', '--name', 'slow', '--once'], { env: { BAKE_FAILPOINT: 'claimed:sleep:8000' } })
    await slow.waitFor('stderr', /is ready/)
    const running = await queue(project)
    await slow.waitFor('stderr', /"failpoint":"claimed"/)

    const old = await change(project, 'two')
    const rebuilt = await queue(project, '--rebuild')
    const bare = await queue(project, '--sha', old)
    await project.repo.git('branch', 'other')
    const other = await queue(project, '--branch', 'other')
    await change(project, 'three')
    const kept = await queue(project)
    await change(project, 'four')
    const cancelled = await queue(project)
    expect((await project.bake(['cancel', cancelled])).code).toBe(0)
    expect((await slow.wait()).code).toBe(0)
    await work(project)
    expect(await statuses(project)).toEqual({
      ...{ [running]: 'built', [rebuilt]: expect.stringMatching(/^(built|tagged)$/) },
      ...{ [bare]: expect.stringMatching(/^(built|tagged)$/), [other]: expect.stringMatching(/^(built|tagged)$/) },
      ...{ [kept]: 'built', [cancelled]: 'cancelled' },
    })
  })

  test('a rewritten branch: what it has no more gives way, although nothing descends from it', async () => {
    await using project = await makeProject(files, env)
    await change(project, 'two')
    const amended = await queue(project)
    await project.repo.git('reset', '-q', '--hard', 'HEAD~1')
    await change(project, 'two, amended')
    const newer = await queue(project)
    await work(project)
    expect(await statuses(project)).toEqual({ [amended]: 'superseded', [newer]: 'built' })
  })

  test('a branch that was moved back: what was ahead gives way', async () => {
    await using project = await makeProject(files, env)
    const old = await project.repo.git('rev-parse', 'HEAD')
    await change(project, 'two')
    const ahead = await queue(project)
    await project.repo.git('reset', '-q', '--hard', old)
    const back = await queue(project)
    await work(project)
    expect(await statuses(project)).toEqual({ [ahead]: 'superseded', [back]: 'built' })
  })

  test('an older commit asked for later takes and loses no place', async () => {
    await using project = await makeProject(files, env)
    const first = await queue(project)
    await change(project, 'two')
    const newer = await queue(project)
    const again = (await project.bake(['retry', first, '--no-wait'])).stdout.trim()
    await work(project)
    expect(await statuses(project)).toEqual({ [first]: 'superseded', [newer]: 'built', [again]: 'built' })
  })
})

test('without the setting every queued build is built', async () => {
  await using project = await makeProject({ ...files, 'bake.yaml': WEB_FILES['bake.yaml']! }, env)
  const first = await queue(project)
  await change(project, 'two')
  const second = await queue(project)
  await work(project)
  expect(await statuses(project)).toEqual({ [first]: 'built', [second]: 'built' })
  expect(await project.ledger.list('asks/')).toEqual([])
})
