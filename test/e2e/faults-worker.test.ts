import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hostStatus } from '../../src/io/host/status.ts'
import { waitFor } from '../../src/wait.ts'
import { startGate } from '../support/gate.ts'
import { kill9 } from '../support/host.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'
import { openRawQueue } from '../support/queue.ts'

const env = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '1.5', BAKE_VISIBILITY_SECONDS: '3', BAKE_HOST_LINGER_MS: '20000' }
const scratch = (dockerfile = 'FROM scratch\nCOPY server.js /\n') => ({ ...WEB_FILES, 'web/Dockerfile': dockerfile })

const states = async (project: TestProject) => {
  const [record] = await project.builds()
  return (await project.claims(record!.commit)).entries.map((entry) =>
    entry.state === 'failed' ? `failed: ${entry.cause}` : entry.state,
  )
}

describe('Ctrl-C of bake worker', () => {
  test('once: finishes the build, takes nothing new, ends with 0', async () => {
    await using gate = await startGate()
    await using project = await makeProject(scratch(gate.dockerfile), env)
    await using worker = project.start(['worker', '--slots', '2'])
    await worker.waitFor('stderr', /is ready/)
    await using asking = project.start(['image'])
    await gate.entered()
    worker.kill('SIGINT')
    await project.repo.commit({ 'README.md': 'a commit that needs a tag only\n' })
    const later = await project.bake(['image', '--no-wait'])
    expect(later, later.stderr).toMatchObject({ code: 0 })
    gate.open()
    expect((await worker.wait()).code).toBe(0)
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect((await project.builds()).map(({ status }) => status)).toEqual(['queued', 'built'])
    await using queue = await openRawQueue(project.dir)
    expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 0, dead: 0 })
  })

  test('twice: kills the build and hands it back without burning an attempt; another worker builds it at once', async () => {
    await using gate = await startGate()
    await using project = await makeProject(scratch(gate.dockerfile), {
      ...env,
      BAKE_LEASE_SECONDS: '60',
      BAKE_VISIBILITY_SECONDS: '60',
    })
    await using worker = project.start(['worker'])
    await worker.waitFor('stderr', /is ready/)
    await using asking = project.start(['image'])
    await gate.entered()
    worker.kill('SIGINT')
    await worker.waitFor('stderr', /a second Ctrl-C or SIGTERM hands it back/)
    worker.kill('SIGINT')
    expect((await worker.wait()).code).toBe(0)
    await waitFor(() => (gate.waiting() === 0 ? true : undefined), { what: 'the build’s end', deadlineMs: 5_000, intervalMs: 20 })
    expect(await states(project)).toEqual(['claimed', 'failed: released'])
    expect((await project.builds())[0]).toMatchObject({ status: 'queued' })
    await asking.waitFor('stderr', /web {2}queued handed back by local, which was stopped/)
    await using other = project.start(['worker', '--name', 'other'])
    // Neither the lease nor the visibility of a minute is waited for.
    await gate.entered()
    gate.open()
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(await states(project)).toEqual(['claimed', 'failed: released', 'claimed', 'published'])
    const [record] = await project.builds()
    const claims = await project.claims(record!.commit)
    expect([claims.worldFailures(record!.build), claims.lostWorkers(record!.build)]).toEqual([0, 0])
    other.kill('SIGTERM')
    expect((await other.wait()).code).toBe(0)
  })
})

test('the host is killed while a worker of its own builds: the worker has another started, finishes, and its message is gone', async () => {
  await using gate = await startGate()
  await using project = await makeProject(scratch(gate.dockerfile), env)
  await using worker = project.start(['worker'])
  await worker.waitFor('stderr', /is ready/)
  const asked = await project.bake(['image', '--no-wait'])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  await gate.entered()
  const { pid } = (await project.host())!
  await kill9(pid)
  await worker.waitFor('stderr', /the host process is gone; starting another/)
  await waitFor(async () => ((await hostStatus(join(project.dir, '.bake'))).running ? true : undefined), {
    what: 'another host',
    deadlineMs: 10_000,
    intervalMs: 50,
  })
  expect((await project.host())?.pid).not.toBe(pid)
  gate.open()
  const told = await project.bake(['logs', asked.stdout.trim(), '--follow'])
  expect(told, told.stderr).toMatchObject({ code: 0 })
  expect(await states(project)).toEqual(['claimed', 'published'])
  await using queue = await openRawQueue(project.dir)
  await waitFor(async () => ((await queue.depth()).visible + (await queue.depth()).inFlight === 0 ? true : undefined), {
    what: 'an empty queue',
    deadlineMs: 10_000,
    intervalMs: 100,
  })
  worker.kill('SIGTERM')
  expect((await worker.wait()).code).toBe(0)
})

test('bake worker --once takes one job of two, finishes it and ends', async () => {
  await using project = await makeProject(scratch(), env)
  for (const line of ['1', '2']) {
    await project.repo.commit({ 'web/server.js': `// ${line} ${Math.random()}\n` })
    expect((await project.bake(['image', '--no-wait'])).code).toBe(0)
  }
  const once = await project.bake(['worker', '--once', '--slots', '4'])
  expect(once, once.stderr).toMatchObject({ code: 0 })
  expect((await project.builds()).map(({ status }) => status).sort()).toEqual(['built', 'queued'])
  await using queue = await openRawQueue(project.dir)
  expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 0 })
  const again = await project.bake(['worker', '--once'])
  expect(again, again.stderr).toMatchObject({ code: 0 })
  expect((await project.builds()).map(({ status }) => status)).toEqual(['built', 'built'])
})

test('two workers with one name: the second is refused with exit 4 and what to do', async () => {
  await using project = await makeProject(scratch(), env)
  await using first = project.start(['worker', '--name', 'big'])
  await first.waitFor('stderr', /is ready/)
  const second = await project.bake(['worker', '--name', 'big'])
  expect(second.code).toBe(4)
  expect(second.stderr).toMatch(/error: a worker called big runs on this machine already\nnext: give this one another --name/)
  first.kill('SIGTERM')
  expect((await first.wait()).code).toBe(0)
})

test('a build that runs too long is ended: exit 5, not tried again, nothing left of it', async () => {
  await using gate = await startGate()
  await using project = await makeProject(scratch(gate.dockerfile), { ...env, BAKE_BUILD_TIMEOUT_MINUTES: '0.15' })
  await using worker = project.start(['worker'])
  await worker.waitFor('stderr', /is ready/)
  const late = await project.bake(['image', '--json'])
  expect(late, late.stderr).toMatchObject({ code: 5 })
  expect(JSON.parse(late.stdout)).toMatchObject({
    error: {
      code: 'build_timed_out',
      exit: 5,
      message: expect.stringContaining('9 s'),
      next: expect.stringContaining('BAKE_BUILD_TIMEOUT_MINUTES'),
    },
  })
  expect(await states(project)).toEqual(['claimed', 'failed: world'])
  await waitFor(() => (gate.waiting() === 0 ? true : undefined), { what: 'the build’s end', deadlineMs: 5_000, intervalMs: 20 })
  await using queue = await openRawQueue(project.dir)
  expect(await queue.depth()).toMatchObject({ visible: 0, inFlight: 0 })
  gate.open()
  const retried = await project.bake(['retry', 'latest'])
  expect(retried, retried.stderr).toMatchObject({ code: 0 })
  worker.kill('SIGTERM')
  await worker.wait()
})

test('two commits of one branch that finish in the wrong order: the branch tag names the newer', async () => {
  await using project = await makeProject(scratch(), env)
  const older = await project.repo.git('rev-parse', 'HEAD')
  await using slow = project.start(['worker', '--name', 'slow', '--once'], { env: { BAKE_FAILPOINT: 'pushed:sleep:12000' } })
  await slow.waitFor('stderr', /is ready/)
  await using first = project.start(['image'])
  await slow.waitFor('stderr', /"failpoint":"pushed"/)

  await using fast = project.start(['worker', '--name', 'fast'])
  const newer = await project.repo.commit({ 'web/server.js': 'console.log("newer")\n' })
  const second = await project.bake(['image'])
  expect(second, second.stderr).toMatchObject({ code: 0 })
  const digest = second.stdout.trim().split('@')[1]
  expect(await project.tagged('branch-main')).toBe(digest)
  expect(await project.tagged(`sha-${older}`)).toBeUndefined()

  const late = await first.wait()
  expect(late, late.stderr).toMatchObject({ code: 0 })
  expect(await project.tagged(`sha-${older}`)).toBe(late.stdout.trim().split('@')[1])
  expect(await project.tagged(`sha-${newer}`)).toBe(digest)
  expect(await project.tagged('branch-main')).toBe(digest)
  expect((await slow.wait()).code).toBe(0)
  fast.kill('SIGTERM')
  expect((await fast.wait()).code).toBe(0)
})
