import { expect, test, vi } from 'vitest'
import { readClaims } from '../../src/jobs/claims.ts'
import { listBuilds } from '../../src/jobs/history.ts'
import { waitFor } from '../../src/wait.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { startGate } from '../support/gate.ts'

/** What flight-*.test.ts show on one machine, across SQS and S3: other latencies, other pauses between looks, workers without a checkout. */
vi.setConfig({ testTimeout: 180_000 })

const records = async (fleet: TestFleet) => (await listBuilds(fleet.ledger, { limit: 100 })).builds
const files = (dockerfile: string) => ({ 'web/Dockerfile': dockerfile, 'web/server.js': `// ${Math.random()}\n` })

/** The queue's answer, with the commit that it is for. */
async function ask(fleet: TestFleet, text: string, path = 'README.md') {
  const commit = await fleet.repo.commit({ [path]: `${text} ${Math.random()}\n` })
  const asked = await fleet.bake(['image', '--no-wait'])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  return { commit, build: asked.stdout.trim() }
}

const ended = (fleet: TestFleet, what: string) =>
  waitFor(
    async () => {
      const [builds, { visible, inFlight, delayed }] = [await records(fleet), await fleet.queue.depth()]
      return visible + inFlight + delayed === 0 && builds.every(({ endedAt }) => endedAt !== undefined) ? builds : undefined
    },
    { what, deadlineMs: 60_000, intervalMs: 200 },
  )

test('a leader is detached, its waiter on another worker follows it to the image; the last asker’s cancellation stops a build within five seconds', async () => {
  await using gate = await startGate()
  await using fleet = await makeFleet({ files: files(gate.dockerfile) })
  await fleet.worker('one')
  const leader = await ask(fleet, 'first')
  await gate.entered()
  await fleet.worker('two')
  const commit = await fleet.repo.commit({ 'README.md': 'second\n' })
  await using second = fleet.start(['image'])
  await second.waitFor('stderr', new RegExp(`build ${leader.build} has the same inputs`), 60_000)
  const detached = await fleet.bake(['cancel', leader.build])
  expect(detached.stdout, detached.stderr).toMatch(/detached; the build goes on for 1 other /)
  await second.waitFor('stderr', /was cancelled by \S+; it goes on for build/, 30_000)
  gate.open()
  const built = await second.wait()
  expect(built, built.stderr).toMatchObject({ code: 0 })
  await ended(fleet, 'both ends')
  expect((await records(fleet)).map(({ status }) => status)).toEqual(['tagged', 'cancelled'])
  expect(await fleet.tagged(`sha-${commit}`)).toBe(built.stdout.trim().split('@')[1])
  expect(await fleet.tagged(`sha-${leader.commit}`)).toBeUndefined()

  await using closed = await startGate()
  await fleet.repo.commit({ 'web/Dockerfile': closed.dockerfile })
  const alone = await ask(fleet, 'third')
  await closed.entered()
  const cancelled = await fleet.bake(['cancel', alone.build, '--json'])
  expect(JSON.parse(cancelled.stdout)).toMatchObject({ builds: [{ outcome: 'stopped' }] })
  await waitFor(() => (closed.waiting() === 0 ? true : undefined), { what: 'the build’s end', deadlineMs: 5_000, intervalMs: 20 })
  const [record] = await ended(fleet, 'a third end')
  expect((await readClaims(fleet.ledger, record!.key)).entries).toMatchObject([
    { state: 'claimed' },
    { state: 'failed', cause: 'cancelled' },
  ])
})

test('queued builds give way to a newer commit', async () => {
  await using fleet = await makeFleet({
    files: files('FROM scratch\nCOPY server.js /\n'),
    yaml: 'fleet: { supersede: true }',
  })
  const older = await ask(fleet, 'older', 'web/server.js')
  const newer = await ask(fleet, 'newer', 'web/server.js')
  await fleet.worker('one', { args: ['--slots', '1'] })
  await ended(fleet, 'both ends')
  const [second, first] = await records(fleet)
  expect([first, second]).toMatchObject([
    { build: older.build, status: 'superseded', supersededBy: newer.build, failure: { code: 'superseded' } },
    { build: newer.build, status: 'built' },
  ])
  expect(await fleet.tagged('branch-main')).toBe(await fleet.tagged(`sha-${newer.commit}`))
})
