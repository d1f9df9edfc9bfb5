import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { cells } from '../support/cells.ts'
import { clock } from '../support/clock.ts'
import { openFlight } from '../support/flight.ts'
import { makeProject, WEB_FILES } from '../support/project.ts'

// Several processes each, on a machine that has other work too.
vi.setConfig({ testTimeout: 120_000 })

const MINUTES = 60_000

test.each(
  cells([
    ['ahead of', 10 * MINUTES],
    ['behind', -10 * MINUTES],
  ]),
)(
  'the first worker and its asker ten minutes %s the truth, the others as far the other way: one flight, detached, taken over',
  async (_, offsetMs) => {
    await using flight = await openFlight()
    const { project, gate } = flight
    const wrong = await clock(project, 'first', offsetMs)
    const opposite = await clock(project, 'second', -offsetMs)
    // The queue's and the registry's clock is right: the host is started here.
    await project.bake(['image', '--dry-run'])
    const one = await flight.worker('one', { env: wrong.env })
    const leader = await flight.ask({ env: wrong.env })
    await gate.entered()
    await flight.worker('two', { env: opposite.env })
    const second = await flight.ask({ env: opposite.env })
    await second.asking.waitFor('stderr', new RegExp(`build ${leader.build} has the same inputs`))
    // Longer than a lease: by either clock the other's beats are ten or twenty minutes off.
    await sleep(4_000)
    expect(await flight.states(leader.commit)).toEqual(['claimed'])

    const told = await project.bake(['cancel', leader.build, '--json'], { env: opposite.env })
    expect(told, told.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(told.stdout)).toMatchObject({ builds: [{ outcome: 'detached', others: [second.build] }] })
    expect((await leader.asking.wait()).code).toBe(3)
    expect(gate.waiting()).toBe(1)

    one.kill('SIGKILL')
    await waitFor(async () => ((await flight.states(leader.commit)).length === 2 ? true : undefined), {
      what: 'a second claim',
      deadlineMs: 40_000,
      intervalMs: 50,
    })
    gate.open()
    const built = await second.asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    await flight.drained()
    expect(await flight.states(leader.commit)).toEqual(['claimed', 'claimed', 'published'])
    expect(await project.tagged(`sha-${second.commit}`)).toBe(built.stdout.trim().split('@')[1])
    expect(await project.tagged(`sha-${leader.commit}`)).toBeUndefined()
  },
)

test('the last asker, twenty minutes apart from the worker, stops its build', async () => {
  await using flight = await openFlight()
  const { project, gate } = flight
  const ahead = await clock(project, 'ahead', 10 * MINUTES)
  const behind = await clock(project, 'behind', -10 * MINUTES)
  await project.bake(['image', '--dry-run'])
  await flight.worker('one', { env: ahead.env })
  const asked = await flight.ask({ env: behind.env })
  await gate.entered()
  const told = await project.bake(['cancel', asked.build], { env: behind.env })
  expect(told.stdout).toBe(`${asked.build} cancelled\n`)
  await waitFor(() => (gate.waiting() === 0 ? true : undefined), { what: 'the build’s end', deadlineMs: 5_000, intervalMs: 20 })
  await flight.drained()
  expect(await flight.states(asked.commit)).toEqual(['claimed', 'failed: cancelled'])
})

test.each(
  cells([
    ['ahead, the newer commit’s behind', 10 * MINUTES],
    ['behind, the newer commit’s ahead', -10 * MINUTES],
  ]),
)(
  'the older commit’s asker ten minutes %s: the older gives way, but not when it is asked for again later',
  async (_, offsetMs) => {
    await using project = await makeProject(
      {
        ...WEB_FILES,
        'bake.yaml': 'project: shop\nimages:\n  web: { context: web }\nfleet: { supersede: true }\n',
        'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
      },
      { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '3', BAKE_VISIBILITY_SECONDS: '5', BAKE_HOST_LINGER_MS: '30000' },
    )
    const wrong = await clock(project, 'older', offsetMs)
    const opposite = await clock(project, 'newer', -offsetMs)
    await project.bake(['image', '--dry-run'])
    const queue = async (args: string[], env: Record<string, string>) => {
      const asked = await project.bake([...args, '--no-wait'], { env })
      expect(asked, asked.stderr).toMatchObject({ code: 0 })
      return asked.stdout.trim()
    }
    const older = await queue(['image'], wrong.env)
    await project.repo.commit({ 'web/server.js': `// newer ${Math.random()}\n` })
    const newer = await queue(['image'], opposite.env)
    const again = await queue(['retry', older], wrong.env)
    await using worker = project.start(['worker'], { env: opposite.env })
    await worker.waitFor('stderr', /is ready/)
    await waitFor(async () => ((await project.builds()).every(({ endedAt }) => endedAt !== undefined) ? true : undefined), {
      what: 'three ends',
      deadlineMs: 40_000,
      intervalMs: 100,
    })
    expect(Object.fromEntries((await project.builds()).map(({ build, status }) => [build, status]))).toEqual({
      ...{ [older]: 'superseded', [newer]: 'built', [again]: 'built' },
    })
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  },
)
