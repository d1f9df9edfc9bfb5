import { describe, expect, test } from 'vitest'
import { readClaims } from '../../src/jobs/claims.ts'
import { type BuildRecord, readBuild, type WorkerDocument } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'
import { startImds } from '../support/aws-gaps/imds.ts'
import { startLifecycle } from '../support/aws-gaps/lifecycle-actions.ts'
import { cells } from '../support/cells.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { startGate } from '../support/gate.ts'
import { HOOK, makeGroup } from '../support/scaling-group.ts'

const REGION = 'us-east-1'
const LONG = { timeout: 240_000 }
const gated = (dockerfile: string) => ({
  files: { 'web/Dockerfile': dockerfile, 'web/server.js': `// ${Math.random()}\n` },
})

/** Asks without waiting; the build's record as it is then. */
async function ask(fleet: TestFleet): Promise<BuildRecord> {
  const asked = await fleet.bake(['image', '--no-wait'])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  return (await readBuild(fleet.ledger, asked.stdout.trim()))!
}

/** The claim log's states, and the attempts that count against the build. */
async function claimsOf(fleet: TestFleet, { key, build }: BuildRecord) {
  const claims = await readClaims(fleet.ledger, key)
  return {
    states: claims.entries.map((entry) => (entry.state === 'failed' ? `failed: ${entry.cause}` : entry.state)),
    burned: claims.worldFailures(build) + claims.lostWorkers(build),
  }
}

const ended = (fleet: TestFleet, { build }: BuildRecord) =>
  waitFor(async () => ((await readBuild(fleet.ledger, build))?.status === 'built' ? true : undefined), {
    what: `build ${build}`,
    deadlineMs: 60_000,
    intervalMs: 250,
  })

describe('a spot interruption', () => {
  test(
    'takes away what can’t be finished: handed back, no attempt burned, built elsewhere; the worker ends with 0 in time',
    LONG,
    async () => {
      await using gate = await startGate()
      await using imds = await startImds()
      await using fleet = await makeFleet(gated(gate.dockerfile))
      const first = await fleet.worker('first', { env: imds.env })
      const build = await ask(fleet)
      await gate.entered()
      // Less than a build that stands still needs, and 25 s are kept for handing back.
      imds.interrupt(40)
      const noticed = performance.now()
      await first.waitFor('stderr', /spot interruption: EC2 will terminate this instance/)
      expect(await first.wait()).toMatchObject({ code: 0 })
      expect((performance.now() - noticed) / 1000).toBeLessThan(40)
      await waitFor(() => (gate.waiting() === 0 ? true : undefined), {
        what: 'the build’s end',
        deadlineMs: 10_000,
        intervalMs: 50,
      })
      expect(await claimsOf(fleet, build)).toEqual({ states: ['claimed', 'failed: released'], burned: 0 })
      expect(await readBuild(fleet.ledger, build.build)).toMatchObject({ status: 'queued' })
      expect(await fleet.ledger.get(keys.worker('first'))).toMatchObject({ state: 'ended', instance: 'i-0123456789abcdef0' })

      gate.open()
      const second = await fleet.worker('second', { env: { AWS_EC2_METADATA_DISABLED: 'true' } })
      await ended(fleet, build)
      expect(await claimsOf(fleet, build)).toEqual({
        states: ['claimed', 'failed: released', 'claimed', 'published'],
        burned: 0,
      })
      second.kill('SIGTERM')
      expect(await second.wait()).toMatchObject({ code: 0 })
      expect(imds.refused).toEqual([])
    },
  )

  test('leaves time for a build that ends soon: it is finished, nothing new is taken', LONG, async () => {
    await using gate = await startGate()
    await using imds = await startImds()
    await using fleet = await makeFleet(gated(gate.dockerfile))
    const first = await fleet.worker('first', { env: imds.env, args: ['--slots', '2'] })
    const build = await ask(fleet)
    await gate.entered()
    imds.interrupt(120)
    await first.waitFor('stderr', /spot interruption/)
    await fleet.repo.commit({ 'web/server.js': `// ${Math.random()}\n` })
    const later = await ask(fleet)
    gate.open()
    expect(await first.wait()).toMatchObject({ code: 0 })
    expect(await claimsOf(fleet, build)).toEqual({ states: ['claimed', 'published'], burned: 0 })
    expect(await readBuild(fleet.ledger, later.build)).toMatchObject({ status: 'queued' })
    expect(await fleet.queue.depth()).toMatchObject({ visible: 1, inFlight: 0, dead: 0 })
  })
})

test(
  'in an auto-scaling group: protected while busy; terminated, it asks for the time it needs, finishes and completes the hook',
  LONG,
  async () => {
    await using gate = await startGate()
    await using fleet = await makeFleet(gated(gate.dockerfile))
    await using lifecycle = await startLifecycle(fleet.moto.endpoint)
    const group = await makeGroup(fleet.moto)
    const instance = group.instances[0]!
    await using imds = await startImds({ instance, region: REGION })
    imds.target = 'InService'
    const env = { ...imds.env, AWS_ENDPOINT_URL_AUTO_SCALING: lifecycle.endpoint }
    const worker = await fleet.worker('first', { env })
    expect(await group.protected(instance)).toBe(false)
    const build = await ask(fleet)
    await gate.entered()
    expect(await group.protected(instance)).toBe(true)

    lifecycle.terminate(instance, { group: group.name, ...HOOK })
    imds.target = 'Terminated'
    await worker.waitFor('stderr', /the auto-scaling group takes this instance out of service/)
    await waitFor(() => (lifecycle.heartbeats.length > 0 ? true : undefined), {
      what: 'a heartbeat of the hook',
      deadlineMs: 30_000,
      intervalMs: 100,
    })
    expect(lifecycle.completed).toEqual([])
    gate.open()
    expect(await worker.wait()).toMatchObject({ code: 0 })
    expect(lifecycle.completed).toEqual([`${instance} CONTINUE`])
    expect(lifecycle.overdue()).toEqual([])
    expect(await claimsOf(fleet, build)).toEqual({ states: ['claimed', 'published'], burned: 0 })
  },
)

test.each(cells([true, false]))(
  'an idle worker whose instance is terminated ends at once (a hook to complete: %s)',
  LONG,
  async (hook) => {
    await using fleet = await makeFleet()
    await using lifecycle = await startLifecycle(fleet.moto.endpoint)
    const group = await makeGroup(fleet.moto, { hook })
    const instance = group.instances[0]!
    await using imds = await startImds({ instance, region: REGION })
    imds.target = 'InService'
    const worker = await fleet.worker('first', { env: { ...imds.env, AWS_ENDPOINT_URL_AUTO_SCALING: lifecycle.endpoint } })
    if (hook) lifecycle.terminate(instance, { group: group.name, ...HOOK })
    imds.target = 'Terminated'
    await worker.waitFor('stderr', /the auto-scaling group takes this instance out of service/)
    const ended = await worker.wait()
    expect(ended, ended.stderr).toMatchObject({ code: 0 })
    expect(ended.stderr).not.toContain('warning')
    expect(lifecycle.completed).toEqual(hook ? [`${instance} CONTINUE`] : [])
  },
)

test('two workers of one terminated instance: only the last to end completes the hook', LONG, async () => {
  await using gate = await startGate()
  await using fleet = await makeFleet(gated(gate.dockerfile))
  await using lifecycle = await startLifecycle(fleet.moto.endpoint)
  const group = await makeGroup(fleet.moto)
  const instance = group.instances[0]!
  await using imds = await startImds({ instance, region: REGION })
  imds.target = 'InService'
  const env = { ...imds.env, AWS_ENDPOINT_URL_AUTO_SCALING: lifecycle.endpoint }
  const busy = await fleet.worker('busy', { env })
  await ask(fleet)
  await gate.entered()
  const idle = await fleet.worker('idle', { env })
  await waitFor(async () => ((await fleet.ledger.get(keys.worker('idle'))) as WorkerDocument | undefined)?.instance, {
    what: 'the second worker to know its instance',
    deadlineMs: 30_000,
    intervalMs: 200,
  })
  lifecycle.terminate(instance, { group: group.name, ...HOOK })
  imds.target = 'Terminated'
  expect(await idle.wait()).toMatchObject({ code: 0 })
  expect(lifecycle.completed).toEqual([])
  gate.open()
  expect(await busy.wait()).toMatchObject({ code: 0 })
  expect(lifecycle.completed).toEqual([`${instance} CONTINUE`])
})

test('a worker that is started again on an instance that is about to go takes no job', LONG, async () => {
  await using fleet = await makeFleet()
  await using imds = await startImds()
  imds.interrupt(100)
  const build = await ask(fleet)
  const worker = await fleet.start(['worker', '--name', 'again'], { env: imds.env }).wait()
  expect(worker, worker.stderr).toMatchObject({ code: 0, stderr: expect.stringContaining('spot interruption') })
  expect(await readBuild(fleet.ledger, build.build)).toMatchObject({ status: 'queued' })
  expect(await claimsOf(fleet, build)).toEqual({ states: [], burned: 0 })
})

test('SIGTERM with a limit: what runs at its end is handed back, and the worker ends with 0', LONG, async () => {
  await using gate = await startGate()
  await using fleet = await makeFleet(gated(gate.dockerfile))
  const env = { AWS_EC2_METADATA_DISABLED: 'true' }
  const worker = await fleet.worker('first', { env: { ...env, BAKE_DRAIN_SECONDS: '2' } })
  const build = await ask(fleet)
  await gate.entered()
  worker.kill('SIGTERM')
  await worker.waitFor('stderr', /worker first is draining: stopped by SIGTERM; what runs in 2 s is handed back/)
  expect(await worker.wait()).toMatchObject({ code: 0 })
  expect(await claimsOf(fleet, build)).toEqual({ states: ['claimed', 'failed: released'], burned: 0 })
  expect(await fleet.queue.depth()).toMatchObject({ visible: 1, inFlight: 0, dead: 0 })
})
