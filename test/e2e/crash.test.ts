import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { imageDocumentSchema, read } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'

/** Every point between two steps of the story (src/image/build.ts and what it calls), in order. */
const POINTS = [
  'received',
  'turn',
  'claimed',
  'fetched',
  'checked-out',
  'building',
  'pushed',
  'publishing',
  'published',
  'image-document',
  'commit-tag',
  'branch-log',
  'branch-tag',
  'recorded',
  'settled',
]

const env = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '1.5', BAKE_VISIBILITY_SECONDS: '3', BAKE_HOST_LINGER_MS: '20000' }

const project = () =>
  makeProject(
    {
      ...WEB_FILES,
      'web/Dockerfile': `FROM localhost/bakehouse/base:bookworm\nCOPY server.js /\nRUN echo ${Math.random()}; sleep 0.5\n`,
    },
    env,
  )

/** What must hold in the end, whatever happened on the way. */
async function expectPublishedOnce(it: TestProject): Promise<void> {
  const [record] = await it.builds()
  expect(record?.status).toMatch(/^(built|tagged)$/)
  const claims = await it.claims(record!.commit)
  expect(claims.entries.filter((entry) => entry.state === 'published')).toHaveLength(1)
  const published = claims.published!
  expect(claims.holder).toBeUndefined()
  expect(await read(it.ledger, keys.image(claims.key), imageDocumentSchema)).toMatchObject({
    n: published.n,
    digest: published.digest,
  })
  expect(await it.tagged(`sha-${record!.commit}`)).toBe(published.digest)
  expect(await it.tagged('branch-main')).toBe(published.digest)
  expect(record!.digest).toBe(published.digest)
}

/** Queue drained, nothing journaled, no buildx left. */
async function expectNothingLeft(it: TestProject): Promise<void> {
  await waitFor(async () => ((await it.processes()).some((line) => line.includes('buildx')) ? undefined : true), {
    what: 'buildx to end',
    deadlineMs: 5_000,
    intervalMs: 50,
  })
  for (const worker of await readdir(join(it.dir, '.bake/workers'))) {
    expect(await readdir(join(it.dir, '.bake/workers', worker, 'held')).catch(() => [])).toEqual([])
  }
}

describe('a worker killed between two steps', () => {
  test.each(POINTS)('at %s: the next one completes the job', async (point) => {
    await using it = await project()
    await using victim = it.start(['worker'], { env: { BAKE_FAILPOINT: `${point}:kill` } })
    await victim.waitFor('stderr', /is ready/)
    const asked = await it.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    expect((await victim.wait()).signal).toBe('SIGKILL')
    await waitFor(async () => ((await it.processes()).some((line) => line.includes('buildx')) ? undefined : true), {
      what: 'buildx to die with its worker',
      deadlineMs: 5_000,
      intervalMs: 50,
    })

    await using heir = it.start(['worker'])
    await heir.waitFor('stderr', /is ready/)
    const followed = await it.bake(['logs', asked.stdout.trim(), '--follow'])
    expect(followed, followed.stderr).toMatchObject({ code: 0 })
    await expectPublishedOnce(it)
    heir.kill('SIGTERM')
    expect((await heir.wait()).code).toBe(0)
    await expectNothingLeft(it)
  })
})

describe('a worker paused past its lease while another takes over', () => {
  const points = process.env.BAKE_TEST_ALL ? POINTS : ['claimed', 'publishing', 'published']
  test.each(points)('at %s: one entry is published', async (point) => {
    await using it = await project()
    await using paused = it.start(['worker', '--name', 'paused'], { env: { BAKE_FAILPOINT: `${point}:stop` } })
    await paused.waitFor('stderr', /is ready/)
    const asked = await it.bake(['image', '--no-wait'])
    await paused.waitFor('stderr', new RegExp(`"failpoint":"${point}"`))
    await using other = it.start(['worker', '--name', 'other'])
    const followed = await it.bake(['logs', asked.stdout.trim(), '--follow'])
    expect(followed, followed.stderr).toMatchObject({ code: 0 })
    paused.kill('SIGCONT')
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    for (const worker of [paused, other]) worker.kill('SIGTERM')
    expect((await paused.wait()).code).toBe(0)
    expect((await other.wait()).code).toBe(0)
    await expectPublishedOnce(it)
    await expectNothingLeft(it)
  })
})
