import { execFile } from 'node:child_process'
import { chmod, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { makeFleet } from '../support/fleet.ts'
import { BASE, BUILD_MS, type BuiltImage, buildWorker, docker, freePort, hostBridge } from './images.ts'

vi.setConfig({ testTimeout: 300_000, hookTimeout: BUILD_MS })

/** Node, git, ssh, buildx and bake itself; 293 MB when this was written. */
const MAX_ADDED_BYTES = 330e6
const SOCKET = '/var/run/docker.sock'

let image: BuiltImage
beforeAll(async () => {
  image = await buildWorker('worker')
})
afterAll(() => image?.[Symbol.asyncDispose]())

describe("the worker's image", () => {
  test('runs bake on Node 24, under tini, as nobody special', async () => {
    expect(await docker(['run', '--rm', image.name, 'bake', '--version'])).toMatch(/^bakehouse\/\S+ linux-\S+ node-v2[4-9]/)
    const [first, user] = (await docker(['run', '--rm', image.name, 'sh', '-c', 'cat /proc/1/comm; id -u'])).split('\n')
    expect({ first, user }).toEqual({ first: 'tini', user: '10001' })
  })

  test('has what a worker needs, and nothing that only building bake needs', async () => {
    const tools = 'git --version && ssh -V && /usr/libexec/docker/cli-plugins/docker-buildx version && setpriv --version'
    await docker(['run', '--rm', image.name, 'sh', '-c', tools])
    const found = await docker([
      'run',
      '--rm',
      image.name,
      'sh',
      '-c',
      'cd /opt/bakehouse; ls -d src test *.md node_modules/typescript 2>/dev/null; true',
    ])
    expect(found).toBe('')
  })

  test('is small', async () => {
    const sizes = async (name: string) =>
      (await docker(['history', '--human=false', '--format', '{{.Size}}', name]))
        .split('\n')
        .reduce((sum, size) => sum + Number(size), 0)
    expect((await sizes(image.name)) - (await sizes(BASE))).toBeLessThan(MAX_ADDED_BYTES)
  })

  test("builds with the machine's engine, is healthy, and drains when it is stopped", async () => {
    await using fleet = await makeFleet()
    await chmod(fleet.dir, 0o755)
    const port = await freePort()
    const env = {
      ...fleet.env,
      AWS_EC2_METADATA_DISABLED: 'true',
      BAKE_WORKER_NAME: 'boxed',
      BAKE_WORKER_LISTEN: `127.0.0.1:${port}`,
    }
    const group = String((await stat(SOCKET)).gid)
    const bridge = await hostBridge()
    await using container = await run([
      ...['--network', 'host', '--group-add', group, '--volume', `${SOCKET}:${SOCKET}`],
      ...['--volume', `${fleet.dir}:${fleet.dir}:ro`, '--workdir', fleet.dir, '--health-interval', '1s'],
      ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      image.name,
    ])
    const asked = await fleet.bake(['image', '--json'])
    expect(asked, asked.stderr + (await container.log())).toMatchObject({ code: 0 })
    expect(await fleet.tagged(`sha-${await fleet.repo.git('rev-parse', 'HEAD')}`)).toBe(JSON.parse(asked.stdout).images[0].digest)
    const health = () => docker(['inspect', '--format', '{{.State.Health.Status}}', container.id])
    await waitFor(async () => (await health()) === 'healthy' || undefined, {
      what: 'health',
      deadlineMs: 90_000,
      intervalMs: 500,
    })
    await docker(['stop', '--time', '60', container.id])
    expect(await docker(['inspect', '--format', '{{.State.ExitCode}}', container.id]), await container.log()).toBe('0')
    const status = JSON.parse((await fleet.bake(['status', '--json'])).stdout)
    expect(status.workers).toEqual([])
    expect(await hostBridge()).toBe(bridge)
  })
})

async function run(args: string[]): Promise<{ id: string; log(): Promise<string> } & AsyncDisposable> {
  const id = await docker(['run', '--detach', ...args])
  return {
    id,
    log: async () => {
      const { stdout, stderr } = await promisify(execFile)('docker', ['logs', id])
      return stdout + stderr
    },
    [Symbol.asyncDispose]: async () => void (await docker(['rm', '--force', '--volumes', id])),
  }
}
