import { expect, test, vi } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { type Asker, type Flight, openFlight } from '../support/flight.ts'

// Several processes each, on a machine that has other work too.
vi.setConfig({ testTimeout: 120_000 })

/** Three commits of one key: the first builds, the others wait for it, on two workers. */
async function three(flight: Flight): Promise<[Asker, Asker, Asker]> {
  await flight.worker('one')
  const leader = await flight.ask()
  await flight.gate.entered()
  await flight.worker('two')
  const waiters = [await flight.ask(), await flight.ask()] as const
  for (const { asking } of waiters) await asking.waitFor('stderr', new RegExp(`build ${leader.build} has the same inputs`))
  return [leader, ...waiters]
}

const cancel = async ({ project }: Flight, ...args: string[]) => {
  const result = await project.bake(['cancel', '--json', ...args])
  expect(result, result.stderr).toMatchObject({ code: 0 })
  return (JSON.parse(result.stdout) as { builds: object[] }).builds
}

const left = ({ gate }: Flight) =>
  waitFor(() => (gate.waiting() === 0 ? true : undefined), { what: 'the build’s end', deadlineMs: 5_000, intervalMs: 20 })

const digestOf = (stdout: string) => stdout.trim().split('@')[1]

test('the leader is cancelled while two others wait: it is detached, they get the image, its commit gets no tag', async () => {
  await using flight = await openFlight()
  const { project, gate } = flight
  const [leader, second, third] = await three(flight)
  const told = await project.bake(['cancel', leader.build])
  expect(told, told.stderr).toMatchObject({
    code: 0,
    stdout: `${leader.build} detached; the build goes on for 2 others (bake cancel ${leader.build} --force stops it)\n`,
  })
  const gone = await leader.asking.wait()
  expect(gone, gone.stderr).toMatchObject({ code: 3, stdout: '' })
  expect(gone.stderr).toMatch(/web {2}cancelled after .*\n(.*\n)*error: web: build \S+ was cancelled by \S+@\S+\n/)
  // Detached, not forgotten: the others' live story goes on and says so.
  await second.asking.waitFor('stderr', /was cancelled by \S+; it goes on for 2 others/)
  expect(gate.waiting()).toBe(1)
  gate.open()
  const ended = await Promise.all([second.asking.wait(), third.asking.wait()])
  for (const each of ended) expect(each, each.stderr).toMatchObject({ code: 0, stdout: ended[0].stdout })
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'published'])
  const digest = digestOf(ended[0].stdout)
  expect(await project.tagged(`sha-${leader.commit}`)).toBeUndefined()
  expect(await project.tagged(`sha-${second.commit}`)).toBe(digest)
  expect(await project.tagged(`sha-${third.commit}`)).toBe(digest)
  expect(await project.tagged('branch-main')).toBe(digest)
  expect((await project.builds()).map(({ status }) => status)).toEqual(['tagged', 'tagged', 'cancelled'])
  expect(await flight.record(leader.build)).toMatchObject({ failure: { code: 'cancelled', exit: 3 } })
})

test('one asker after the other is cancelled: the last one stops the build', async () => {
  await using flight = await openFlight()
  const { gate } = flight
  const [leader, second, third] = await three(flight)
  expect(await cancel(flight, second.build)).toEqual([
    { build: second.build, status: 'cancelled', outcome: 'detached', others: [third.build, leader.build], forced: [] },
  ])
  expect(await cancel(flight, leader.build)).toEqual([
    { build: leader.build, status: 'cancelled', outcome: 'detached', others: [third.build], forced: [] },
  ])
  expect(gate.waiting()).toBe(1)
  expect(await cancel(flight, third.build)).toEqual([
    { build: third.build, status: 'cancelled', outcome: 'stopped', others: [], forced: [] },
  ])
  await left(flight)
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'failed: cancelled'])
  for (const { asking } of [leader, second, third]) expect((await asking.wait()).code).toBe(3)
  expect(await cancel(flight, third.build)).toMatchObject([{ status: 'cancelled', outcome: 'ended' }])
})

test('--force stops the build and tells everybody who did that', async () => {
  await using flight = await openFlight()
  const [leader, second, third] = await three(flight)
  expect(await cancel(flight, second.build, '--force')).toEqual([
    {
      ...{ build: second.build, status: 'cancelled', outcome: 'stopped', others: [] },
      forced: [third.build, leader.build],
    },
  ])
  await left(flight)
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'failed: cancelled'])
  for (const { asking } of [leader, third]) {
    const told = await asking.wait()
    expect(told.code).toBe(3)
    expect(told.stderr).toMatch(
      new RegExp(
        `was cancelled by \\S+@\\S+, with everything that asked for the same inputs \\(bake cancel ${second.build} --force\\)`,
      ),
    )
    expect(told.stderr).toMatch(/next: bake retry/)
  }
})

test('a build that was detached before is stopped with --force', async () => {
  await using flight = await openFlight()
  const [leader, second, third] = await three(flight)
  expect(await cancel(flight, leader.build)).toMatchObject([{ outcome: 'detached' }])
  expect(await cancel(flight, leader.build, '--force')).toMatchObject([
    { build: leader.build, outcome: 'stopped', others: [], forced: [third.build, second.build] },
  ])
  await left(flight)
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'failed: cancelled'])
})

test('the worker of a detached leader is killed: a waiter on another worker takes the claim over', async () => {
  await using flight = await openFlight()
  const { project, gate } = flight
  const one = await flight.worker('one')
  const leader = await flight.ask()
  await gate.entered()
  await flight.worker('two')
  const second = await flight.ask()
  await second.asking.waitFor('stderr', /has the same inputs/)
  expect(await cancel(flight, leader.build)).toMatchObject([{ outcome: 'detached', others: [second.build] }])
  one.kill('SIGKILL')
  await waitFor(async () => ((await flight.states(leader.commit)).length === 2 ? true : undefined), {
    what: 'a second claim',
    deadlineMs: 30_000,
    intervalMs: 50,
  })
  gate.open()
  const built = await second.asking.wait()
  expect(built, built.stderr).toMatchObject({ code: 0 })
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'claimed', 'published'])
  expect(await project.tagged(`sha-${second.commit}`)).toBe(digestOf(built.stdout))
  expect(await project.tagged(`sha-${leader.commit}`)).toBeUndefined()
  expect((await project.builds()).map(({ status }) => status)).toEqual(['built', 'cancelled'])
})

test('the worker of a detached leader is stopped: its message is gone, the waiter builds', async () => {
  await using flight = await openFlight()
  const { gate } = flight
  const one = await flight.worker('one')
  const leader = await flight.ask()
  await gate.entered()
  await flight.worker('two')
  const second = await flight.ask()
  await second.asking.waitFor('stderr', /has the same inputs/)
  await cancel(flight, leader.build)
  one.kill('SIGTERM')
  await one.waitFor('stderr', /a second Ctrl-C or SIGTERM hands it back/)
  one.kill('SIGTERM')
  expect((await one.wait()).code).toBe(0)
  gate.open()
  const built = await second.asking.wait()
  expect(built, built.stderr).toMatchObject({ code: 0 })
  await flight.drained()
  expect(await flight.states(leader.commit)).toEqual(['claimed', 'failed: released', 'claimed', 'published'])
  expect(await flight.record(leader.build)).toMatchObject({ status: 'cancelled' })
})

test('a queued build that no worker has is cancelled within five seconds; its message goes with the next worker', async () => {
  await using flight = await openFlight()
  const asked = await flight.ask()
  const started = performance.now()
  expect(await cancel(flight, asked.build)).toMatchObject([{ status: 'cancelled', outcome: 'stopped' }])
  expect((await asked.asking.wait()).code).toBe(3)
  // A process starts in that time, too.
  expect(performance.now() - started).toBeLessThan(10_000)
  await flight.worker('one')
  await flight.drained()
  expect(await flight.states(asked.commit)).toEqual([])
  expect(await flight.record(asked.build)).toMatchObject({ status: 'cancelled' })
})

test('a build whose worker stands still is cancelled; resumed, the worker publishes nothing', async () => {
  await using flight = await openFlight({ env: { BAKE_LEASE_SECONDS: '60', BAKE_VISIBILITY_SECONDS: '60' } })
  const { project, gate } = flight
  const one = await flight.worker('one')
  const asked = await flight.ask()
  await gate.entered()
  one.kill('SIGSTOP')
  expect(await cancel(flight, asked.build)).toMatchObject([{ status: 'cancelled', outcome: 'stopped' }])
  expect((await asked.asking.wait()).code).toBe(3)
  one.kill('SIGCONT')
  await left(flight)
  await flight.drained()
  expect(await flight.states(asked.commit)).toEqual(['claimed', 'failed: cancelled'])
  expect(await project.tagged(`sha-${asked.commit}`)).toBeUndefined()
  expect(await flight.record(asked.build)).toMatchObject({ status: 'cancelled' })
})
