import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'

/** A machine is emulated in software here: a bake boots it three times. */
const BAKE = { timeout: 1_200_000 }
const DIGEST = /^sha256:[0-9a-f]{64}$/

interface Baked {
  status: string
  image: string
  inputs: string
  phases: { phase: string; seconds: number }[]
  proof: { boots: { network: string; services: { service: string; level: string; digest: string; seconds: number }[] }[] }
}

describe.skipIf(!bootsMachines)('a release baked into a disk on this machine', () => {
  let project: TestProject
  beforeAll(async () => {
    project = await makeMachineProject(
      [
        '    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 120s } }',
        '    jobs:',
        '      image: web',
        '      command: ["busybox", "sh", "-c", "[ -n \\"$TOKEN\\" ] && exec busybox sleep 100000"]',
        '      after: [web]',
        '      env_file: /etc/shop/jobs.env',
        '      proof: { level: started, env: { TOKEN: "stands in" } }\n',
      ].join('\n'),
      { more: '  baker: packer\n' },
    )
    await project.repo.git('tag', 'v1')
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())

  test('boots with the network unplugged, every service healthy, and is found when it is asked for again', BAKE, async () => {
    const result = await project.bake(['ami', '--release', 'v1', '--json'])
    expect(result, result.stderr.slice(-4000)).toMatchObject({ code: 0 })
    const baked = JSON.parse(result.stdout) as Baked
    expect(baked.status).toBe('baked')
    expect(baked.proof.boots.map(({ network }) => network).sort()).toEqual(['dead', 'none'])
    for (const { services } of baked.proof.boots) {
      expect(services).toEqual([
        { service: 'web', level: 'healthy', digest: expect.stringMatching(DIGEST), seconds: expect.any(Number) },
        { service: 'jobs', level: 'started', digest: expect.stringMatching(DIGEST), seconds: expect.any(Number) },
      ])
    }
    const phases = baked.phases.map(({ phase }) => phase)
    expect(phases).toEqual(expect.arrayContaining(['boot', 'images', 'rehearse', 'clean', 'scan', 'power-off', 'proof']))

    await project.repo.git('tag', 'v2')
    const again = await project.bake(['ami', '--release', 'v2', '--json'])
    expect(again, again.stderr).toMatchObject({ code: 0 })
    // Another release of the same content is the same machine image.
    expect(JSON.parse(again.stdout)).toMatchObject({ status: 'found', image: baked.image, inputs: baked.inputs })
    expect(again.stderr).not.toContain('Packer')
  })

  test('bake run serves its page on a port of this machine, and knows its release', BAKE, async () => {
    await using running = project.start(['run', 'v2', '--port', '0:80'])
    const line = await running.waitFor('stderr', /127\.0\.0\.1:\d+/, 300_000)
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(line)![1])
    const page = await waitFor(() => get(port).catch(() => undefined), {
      what: 'the page',
      deadlineMs: 300_000,
      intervalMs: 1000,
    })
    expect(page).toBe('hello\n')
    running.kill('SIGINT')
    expect((await running.wait()).code).toBe(0)
  })

  test('nothing of a bake is left but its disk', async () => {
    const left = (await project.processes()).filter((line) => /qemu|packer/.test(line))
    expect(left).toEqual([])
    const pruned = await project.bake(['prune', '--dry-run', '--json'])
    expect(pruned, pruned.stderr).toMatchObject({ code: 0 })
  })
})

const get = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const asking = request({ port, host: '127.0.0.1', path: '/', timeout: 5_000 }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += chunk))
      response.on('end', () => resolve(text))
    })
    asking.on('error', reject)
    asking.on('timeout', () => asking.destroy(new Error('no answer')))
    asking.end()
  })
