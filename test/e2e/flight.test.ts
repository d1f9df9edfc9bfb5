import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { openFlight } from '../support/flight.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, WEB_FILES } from '../support/project.ts'
import { openRawQueue } from '../support/queue.ts'

// Several processes each, on a machine that has other work too.
vi.setConfig({ testTimeout: 120_000 })

const env = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '3', BAKE_VISIBILITY_SECONDS: '5', BAKE_HOST_LINGER_MS: '30000' }

test('six askers of one key at once, three workers with one slot each: built once, all follow it live, nobody who waits has a slot', async () => {
  // One each: the engine itself would join builds of one step.
  await using a = await startGate()
  await using b = await startGate()
  await using flight = await openFlight({
    files: {
      'bake.yaml': 'project: shop\nimages:\n  web: { context: web }\n  a: { context: a }\n  b: { context: b }\n',
      ...{ 'a/Dockerfile': a.dockerfile, 'a/server.js': 'a', 'b/Dockerfile': b.dockerfile, 'b/server.js': 'b' },
    },
  })
  const { project, gate } = flight
  const names = ['one', 'two', 'three']
  for (const name of names) await flight.worker(name, { slots: 1 })
  const commits: string[] = []
  for (let n = 0; n < 6; n++) commits.push(await project.repo.commit({ 'README.md': `commit ${n}\n` }))
  const askers = commits.map((commit) => project.start(['image', '--sha', commit, '--image', 'web']))
  await using ended = new AsyncDisposableStack()
  for (const asker of askers) ended.use(asker)
  await gate.entered()
  // The leader's own step, while it stands still.
  for (const asker of askers) await asker.waitFor('stderr', /web {2}#\d+ .*ADD http:\/\/127\.0\.0\.1/, 60_000)
  const waiting = await waitFor(
    async () => {
      const builds = await project.builds()
      return builds.filter(({ status }) => status === 'waiting').length === 5 ? builds : undefined
    },
    { what: 'five waiters', deadlineMs: 30_000, intervalMs: 100 },
  )
  const leader = waiting.find(({ status }) => status === 'running')!
  expect(waiting.filter(({ status }) => status === 'waiting').map((build) => build.leader?.build)).toEqual(
    Array.from({ length: 5 }, () => leader.build),
  )
  expect(gate.waiting()).toBe(1)
  // Both other workers' only slots are free, although five messages wait on them.
  await using more = project.start(['image', '--image', 'a', '--image', 'b'])
  await Promise.all([a.entered(), b.entered()])
  expect(gate.waiting()).toBe(1)
  const running = (await project.builds()).filter(({ status }) => status === 'running')
  expect(running.map(({ worker }) => worker).sort()).toEqual([...names].sort())
  for (const each of [a, b]) each.open()
  expect((await more.wait()).code).toBe(0)

  gate.open()
  const told = await Promise.all(askers.map((each) => each.wait()))
  for (const each of told) expect(each, each.stderr).toMatchObject({ code: 0, stdout: told[0]!.stdout })
  await flight.drained()
  expect(await flight.states(commits[0]!)).toEqual(['claimed', 'published'])
  const digest = told[0]!.stdout.trim().split('@')[1]
  for (const commit of commits) expect(await project.tagged(`sha-${commit}`)).toBe(digest)
  const web = (await project.builds()).filter(({ image }) => image === 'web')
  expect(web.map(({ status }) => status).sort()).toEqual(['built', ...Array.from({ length: 5 }, () => 'tagged')])
})

test('a high job goes before 20 queued normal ones on a worker with one slot', async () => {
  const names = Array.from({ length: 20 }, (_, n) => `svc-${n}`)
  await using gate = await startGate()
  const image = (name: string, dockerfile = 'FROM scratch\nCOPY server.js /\n') => ({
    ...{ [`${name}/Dockerfile`]: dockerfile, [`${name}/server.js`]: `// ${name} ${Math.random()}\n` },
  })
  await using project = await makeProject(
    {
      ...WEB_FILES,
      'bake.yaml': `project: shop\nimages:\n${['first', ...names, 'urgent'].map((name) => `  ${name}: { context: ${name} }\n`).join('')}`,
      ...Object.assign({}, image('first', gate.dockerfile), ...[...names, 'urgent'].map((name) => image(name))),
    },
    env,
  )
  await using worker = project.start(['worker', '--slots', '1'])
  await worker.waitFor('stderr', /is ready/)
  const ask = async (...args: string[]) => {
    const asked = await project.bake(['image', '--no-wait', ...args])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
  }
  await ask('--image', 'first')
  await gate.entered()
  await ask(...names.flatMap((name) => ['--image', name]))
  await ask('--image', 'urgent', '--priority', 'high')
  gate.open()
  await waitFor(async () => ((await project.builds()).every(({ status }) => status === 'built') ? true : undefined), {
    what: '22 images',
    deadlineMs: 100_000,
    intervalMs: 200,
  })
  const order = (await project.builds()).sort((a, b) => a.startedAt! - b.startedAt!).map((build) => build.image)
  expect(order.slice(0, 2)).toEqual(['first', 'urgent'])
  expect(order).toHaveLength(22)
  worker.kill('SIGTERM')
  expect((await worker.wait()).code).toBe(0)
})

test('a job of a repository that the worker does not build: its asker is told, the record says so, it lies in the dead letters', async () => {
  await using project = await makeProject({ ...WEB_FILES, 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n' }, env)
  await using worker = project.start(['worker'])
  await worker.waitFor('stderr', /is ready/)
  const elsewhere = 'https://git.example.org/acme/other.git'
  await writeFile(join(project.dir, 'bake.yaml'), `${WEB_FILES['bake.yaml']}repository: ${elsewhere}\n`)
  const refused = await project.bake(['image', '--json'])
  expect(refused, refused.stderr).toMatchObject({ code: 2 })
  expect(JSON.parse(refused.stdout)).toMatchObject({
    images: [{ status: 'failed' }],
    error: {
      code: 'repository_not_allowed',
      message: expect.stringContaining(elsewhere),
      next: expect.stringContaining(project.dir),
    },
  })
  expect(await project.builds()).toMatchObject([{ status: 'failed', failure: { code: 'repository_not_allowed', kind: 'user' } }])
  await using queue = await openRawQueue(project.dir)
  const dead = await waitFor(async () => ((await queue.depth()).dead === 1 ? queue.dead() : undefined), {
    what: 'a dead letter',
    deadlineMs: 10_000,
    intervalMs: 100,
  })
  expect(dead).toMatchObject([{ reason: 'repository_not_allowed', body: expect.stringContaining(elsewhere) }])
  expect(await project.ledger.list('claims/')).toEqual([])
  worker.kill('SIGTERM')
  expect((await worker.wait()).code).toBe(0)
})
