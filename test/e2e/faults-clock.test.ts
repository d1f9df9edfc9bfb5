import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { cells } from '../support/cells.ts'
import { clock } from '../support/clock.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'

const HOURS = 3600_000
const env = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '1', BAKE_VISIBILITY_SECONDS: '3', BAKE_HOST_LINGER_MS: '20000' }
const scratch = (dockerfile = 'FROM scratch\nCOPY server.js /\n') => ({ ...WEB_FILES, 'web/Dockerfile': dockerfile })

/** The columns TOOK and ASKED of `bake builds`, newest first. */
async function listed(project: TestProject): Promise<{ status: string; took: string; asked: string }[]> {
  const { stdout } = await project.bake(['builds'])
  const [title = '', ...lines] = stdout.trimEnd().split('\n')
  const [status = 0, took = 0, caches = 0, asked = 0] = ['STATUS', 'TOOK', 'CACHES', 'ASKED'].map((column) =>
    title.indexOf(column),
  )
  return lines.map((line) => ({
    status: line.slice(status, took).trim().split(/\s/)[0]!,
    took: line
      .slice(status, caches)
      .trim()
      .replace(/^\w+\s+/, ''),
    asked: line.slice(asked).trim(),
  }))
}

describe.each(
  cells([
    ['two hours ahead of', 2 * HOURS],
    ['two hours behind', -2 * HOURS],
  ]),
)('a worker %s the asker', (_, offsetMs) => {
  test('builds and tags; order, ages and times of bake builds stay sane', async () => {
    await using project = await makeProject(scratch(), env)
    const wrong = await clock(project, 'worker')
    await wrong.set(offsetMs)
    // Its clock is the asker's: the host is started by it.
    await project.bake(['image', '--dry-run'])
    await using worker = project.start(['worker'], { env: wrong.env })
    await worker.waitFor('stderr', /is ready/)
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stderr).toMatch(/built in \d+\.\d s/)
    await project.repo.commit({ 'README.md': 'outside of the context\n' })
    const tagged = await project.bake(['image'])
    expect(tagged, tagged.stderr).toMatchObject({ code: 0, stdout: built.stdout })
    const [second, first] = await project.builds()
    expect(Math.abs(first!.startedAt! - first!.askedAt - offsetMs)).toBeLessThan(60_000)
    expect(second!.askedAt).toBeGreaterThan(first!.askedAt)
    expect(await listed(project)).toEqual([
      { status: 'tagged', took: expect.stringMatching(/^\d+\.\d s$/), asked: expect.stringMatching(/^just now$|^\d+ s ago$/) },
      { status: 'built', took: expect.stringMatching(/^\d+\.\d s$/), asked: expect.stringMatching(/^just now$|^\d+ s ago$/) },
    ])
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  })
})

test.each(
  cells([
    ['back', -2 * HOURS],
    ['forward', 2 * HOURS],
  ]),
)('a worker’s clock that is set %s two hours while it builds: nobody takes its claim over, it publishes', async (_, offsetMs) => {
  await using gate = await startGate()
  await using project = await makeProject(scratch(gate.dockerfile), env)
  const set = await clock(project, 'set')
  await using worker = project.start(['worker', '--name', 'first'], { env: set.env })
  await worker.waitFor('stderr', /is ready/)
  await using asking = project.start(['image'])
  await gate.entered()
  // It waits for nothing but a claim to take over.
  await using heir = project.start(['worker', '--name', 'heir'])
  await heir.waitFor('stderr', /is ready/)
  await using again = project.start(['image'])
  await again.waitFor('stderr', /has the same inputs/)
  await set.set(offsetMs)
  await sleep(4_000)
  const [record] = await project.builds()
  expect((await project.claims(record!.commit)).entries.map(({ state }) => state)).toEqual(['claimed'])
  gate.open()
  const [built, second] = await Promise.all([asking.wait(), again.wait()])
  expect(built, built.stderr).toMatchObject({ code: 0 })
  expect(second, second.stderr).toMatchObject({ code: 0, stdout: built.stdout })
  expect((await project.claims(record!.commit)).entries.map(({ state }) => state)).toEqual(['claimed', 'published'])
  for (const each of [worker, heir]) {
    each.kill('SIGTERM')
    expect((await each.wait()).code).toBe(0)
  }
})

test('an asker two hours ahead: its build is built once, and an asker with the right clock finds it', async () => {
  await using project = await makeProject(scratch())
  const ahead = await clock(project, 'asker')
  await ahead.set(2 * HOURS)
  const built = await project.bake(['image'], { env: ahead.env })
  expect(built, built.stderr).toMatchObject({ code: 0 })
  const again = await project.bake(['image'])
  expect(again, again.stderr).toMatchObject({ code: 0, stdout: built.stdout })
  expect(await project.builds()).toMatchObject([{ status: 'built' }])
  expect(await listed(project)).toMatchObject([{ asked: 'just now' }])
})
