import { createHmac } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { cells } from '../support/cells.ts'
import { type HookCall, startHookServer } from '../support/hook-server.ts'
import { BASE_IMAGE, makeProject } from '../support/project.ts'

const SECRET = Buffer.alloc(32, 3)
const env = {
  BAKE_DEFAULT_WORKER: '0',
  BAKE_LEASE_SECONDS: '1.5',
  BAKE_VISIBILITY_SECONDS: '3',
  BAKE_HOST_LINGER_MS: '20000',
  HOOK_SECRET: `whsec_${SECRET.toString('base64')}`,
}
const config = (images: string, url: string) => `project: shop
images: ${images}
notify:
  - { webhook: "${url}/signed", secret_env: HOOK_SECRET, on: [built, failed] }
`

/** Committed without `notify:`; what the worker's own bake.yaml has counts. */
async function project(images: string, url: string) {
  const it = await makeProject(
    {
      'bake.yaml': config(images, `${url}/of-the-commit`),
      'web/Dockerfile': `FROM ${BASE_IMAGE}\nRUN echo ${Math.random()}\n`,
      'jobs/Dockerfile': `FROM ${BASE_IMAGE}\nRUN echo ${Math.random()} && echo the last line && false\n`,
      'more/Dockerfile': `FROM ${BASE_IMAGE}\nRUN echo ${Math.random()}\n`,
    },
    env,
  )
  await writeFile(join(it.dir, 'bake.yaml'), config(images, url))
  return it
}

const told = ({ body }: HookCall) => JSON.parse(body) as { type: string; data: Record<string, unknown> }

describe('notify:', { timeout: 240_000 }, () => {
  test('a build that fails and one that doesn’t are told once each, where the worker’s own bake.yaml says', async () => {
    await using server = await startHookServer()
    await using it = await project('{ web: web, jobs: jobs }', server.url)
    await using worker = it.start(['worker'])
    await worker.waitFor('stderr', /is ready/)
    const { code, stderr } = await it.bake(['image'])
    expect(code, stderr).toBe(3)
    // Asked again, nothing is built: nothing is told.
    expect((await it.bake(['image', '--image', 'web'])).code).toBe(0)
    await server.called(2)
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)

    expect(server.calls.map(({ path }) => path)).toEqual(['/signed', '/signed'])
    expect(server.calls.map((call) => told(call).type).sort()).toEqual(['image.built', 'image.failed'])
    for (const { headers, body } of server.calls) {
      const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
      const expected = createHmac('sha256', SECRET).update(content).digest('base64')
      expect(headers['webhook-signature']).toBe(`v1,${expected}`)
    }
    const builds = await it.builds()
    const built = server.calls.map(told).find(({ type }) => type === 'image.built')!.data
    expect(built).toMatchObject({
      image: 'web',
      commit: builds[0]!.commit,
      branch: 'main',
      digest: builds.find(({ image }) => image === 'web')!.digest,
    })
    const failed = server.calls.map(told).find(({ type }) => type === 'image.failed')!.data
    expect(failed).toMatchObject({ image: 'jobs', failure: { code: 'dockerfile_failed', exit: 3 } })
    expect(JSON.stringify(failed.failure)).toContain('the last line')
    expect(worker.lines('stderr').join('\n') + stderr).not.toContain('/signed')
  })

  test.each(
    cells([
      ['before anybody was told: it is told', 'recorded', 1],
      ['before it was sent: it is told', 'telling', 1],
      ['after it was sent, before that was noted: it is told again, under the same id', 'told', 2],
    ]),
  )('a worker is killed right after the build ended, %s', async (_name, point, times) => {
    await using server = await startHookServer()
    await using it = await project('{ web: web }', server.url)
    await using victim = it.start(['worker'], { env: { BAKE_FAILPOINT: `${point}:kill` } })
    await victim.waitFor('stderr', /is ready/)
    const asked = await it.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    expect((await victim.wait()).signal).toBe('SIGKILL')
    await using heir = it.start(['worker'])
    await heir.waitFor('stderr', /is ready/)
    await server.called(times)
    heir.kill('SIGTERM')
    expect((await heir.wait()).code).toBe(0)
    expect(server.calls).toHaveLength(times)
    expect(new Set(server.calls.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect((await it.builds())[0]).toMatchObject({ status: 'built' })
  })

  test('a server that never answers delays no build, not even on a worker with one slot', async () => {
    await using server = await startHookServer(() => {})
    await using it = await project('{ web: web, more: more }', server.url)
    await using worker = it.start(['worker', '--slots', '1'])
    await worker.waitFor('stderr', /is ready/)
    const { code, stderr } = await it.bake(['image'])
    expect(code, stderr).toBe(0)
    await waitFor(() => (/was not told of build/.test(worker.lines('stderr').join('\n')) ? true : undefined), {
      what: 'the hook to be given up',
      deadlineMs: 90_000,
      intervalMs: 100,
    })
    // A hook's tries take about half a minute: the second build began while those of the first one's were under way.
    const began = (await it.builds()).map(({ startedAt }) => startedAt ?? Number.POSITIVE_INFINITY)
    expect(Math.max(...began)).toBeLessThan(Date.now() - 5_000)
    expect(worker.lines('stderr').join('\n')).toMatch(/notify\.0 \(webhook\) was not told of build .*did not answer within 5 s/)
    expect(worker.lines('stderr').join('\n')).not.toContain('/signed')
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  })
})
