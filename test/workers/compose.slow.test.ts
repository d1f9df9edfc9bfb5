import { execFile } from 'node:child_process'
import { chmod } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { runBake } from '../support/bake.ts'
import { makeRepo } from '../support/repo.ts'
import { tinyRoot } from '../support/tiny-root.ts'
import { BUILD_MS, buildService, buildWorker, docker, freePort, hostBridge } from './images.ts'
import { workersFile } from './template.ts'

vi.setConfig({ testTimeout: 600_000, hookTimeout: 2 * BUILD_MS })

const stack = new AsyncDisposableStack()
let images: Record<string, string>

beforeAll(async () => {
  // One after the other: they share what takes long.
  const engine = stack.use(await buildWorker('engine'))
  const moto = stack.use(await buildService('moto'))
  const registry = stack.use(await buildService('registry'))
  images = { BAKE_WORKER_IMAGE: engine.name, BAKE_MOTO_IMAGE: moto.name, BAKE_REGISTRY_IMAGE: registry.name }
})
afterAll(() => stack.disposeAsync())

// The worker's image is built and run by itself in image.slow.test.ts.
test.runIf(process.env.BAKE_TEST_ALL)(
  'two workers with engines of their own build what is asked for, and leave nothing behind',
  async () => {
    const [aws, registry] = [await freePort(), await freePort()]
    const name = `bake-test-${process.pid}`
    await using repo = await makeRepo({
      files: {
        ...(await tinyRoot('web/root', ['bash'])),
        'web/Dockerfile': `FROM scratch
COPY root /
ARG REGISTRY
SHELL ["/bin/bash", "-c"]
RUN exec 3<>/dev/tcp/$REGISTRY/5000
`,
        'jobs/Dockerfile': 'FROM scratch\nCOPY jobs.js /\n',
        'jobs/jobs.js': '1\n',
      },
    })
    await chmod(repo.dir, 0o755)
    const settings = {
      BAKE_PROJECT: repo.dir,
      BAKE_FLEET: name,
      BAKE_AWS_PORT: String(aws),
      BAKE_REGISTRY_PORT: String(registry),
    }
    const env = { ...process.env, ...images, ...settings }
    const compose = (...args: string[]) => docker(['compose', '--file', workersFile('compose.yaml'), ...args], env)
    const bridge = await hostBridge()
    {
      await using undo = new AsyncDisposableStack()
      undo.defer(async () => void (await compose('down', '--volumes', '--timeout', '30')))
      await compose('up', '--detach', '--no-build', 'registry')
      // A RUN that reaches another container proves that the inner engines have bridges and rules of their own.
      const address = await docker([
        'inspect',
        '--format',
        '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}',
        `${name}-registry-1`,
      ])
      await repo.commit({
        'bake.yaml': `project: shop
repository: ${repo.dir}
registry: localhost:${registry}/shop
aws: { region: us-east-1, queue: bake, bucket: bake-ledger }
images:
  web: { context: web, args: { REGISTRY: ${address} } }
  jobs: { context: jobs }
`,
      })
      await compose('up', '--detach', '--no-build', '--scale', 'worker=2')
      expect(await hostBridge()).toBe(bridge)
      const here = { cwd: repo.dir, env: { AWS_ENDPOINT_URL: `http://localhost:${aws}`, AWS_EC2_METADATA_DISABLED: 'true' } }
      const status = async () => JSON.parse((await runBake(['status', '--json'], here)).stdout)
      const ready = async () => {
        const { workers = [] } = await status()
        return workers.filter(({ state }: { state: string }) => state === 'ready').length === 2 || undefined
      }
      const logs = async () =>
        promisify(execFile)('docker', ['compose', '--file', workersFile('compose.yaml'), 'logs', '--tail', '40'], { env })
      try {
        await waitFor(ready, { what: 'two workers', deadlineMs: 240_000, intervalMs: 1_000 })
        const asked = await runBake(['image'], here)
        expect(asked, asked.stderr).toMatchObject({ code: 0 })
        const digests = asked.stdout.trim().split('\n')
        expect(digests).toHaveLength(2)
        for (const digest of digests) expect(digest).toMatch(new RegExp(`^localhost:${registry}/shop/(web|jobs)@sha256:`))
      } catch (error) {
        throw new Error((await logs()).stdout, { cause: error })
      }
      // Each has its own.
      const engines = await Promise.all(
        [1, 2].map((n) => docker(['exec', `${name}-worker-${n}`, 'cat', '/var/lib/docker/engine-id'])),
      )
      expect(new Set(engines).size).toBe(2)
      const healthy = async () => {
        const found = await docker(['inspect', '--format', '{{.State.Health.Status}}', `${name}-worker-1`, `${name}-worker-2`])
        return found === 'healthy\nhealthy' || undefined
      }
      await waitFor(healthy, { what: 'health', deadlineMs: 90_000, intervalMs: 1_000 })
    }
    const label = `label=com.docker.compose.project=${name}`
    for (const kind of ['container', 'volume', 'network'])
      expect(await docker([kind, 'ls', ...(kind === 'container' ? ['--all'] : []), '--quiet', '--filter', label]), kind).toBe('')
    expect(await hostBridge()).toBe(bridge)
  },
)
