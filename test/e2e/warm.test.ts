import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import {
  type BuildRecord,
  latestDocumentSchema,
  read,
  readBuild,
  type WorkerDocument,
  workerDocumentSchema,
} from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'
import type { RunningBake } from '../support/bake.ts'
import { type OwnEngine, startEngine } from '../support/engine.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import type { LoggedRequest } from '../support/registry.ts'
import type { RepoFiles } from '../support/repo.ts'
import { tinyRoot } from '../support/tiny-root.ts'

const isRoot = process.platform === 'linux' && process.getuid?.() === 0
const LONG = { timeout: 600_000 }
const NOTHING = { BAKE_WARM_SECONDS: '0', BAKE_FOLLOW_SECONDS: '0' }

/** Dependencies in a stage of their own, which has no name, and source that changes on top. */
const files = async (more = ''): Promise<RepoFiles> => ({
  ...(await tinyRoot('web/root', ['head'])),
  'web/Dockerfile': `FROM scratch AS base\nCOPY root /\nENV PATH=/bin\nFROM base\nCOPY lock /\nRUN head -c 3000000 /dev/urandom > /deps\nCOPY source /\nRUN head -c 3 /source > /compiled\nFROM base\n${more}COPY --from=1 /compiled /\nCOPY server.js /\nRUN head -c 5 /server.js\n`,
  'web/lock': `${randomUUID()}\n`,
  'web/source': `${randomUUID()}\n`,
  'web/server.js': '// first\n',
})

async function build(fleet: TestFleet, change: RepoFiles): Promise<BuildRecord> {
  await fleet.repo.commit(change)
  const asked = await fleet.bake(['image', '--json'])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  const [image] = (JSON.parse(asked.stdout) as { images: { build: string }[] }).images
  return (await readBuild(fleet.ledger, image!.build))!
}

async function stop(worker: RunningBake) {
  worker.kill('SIGTERM')
  expect(await worker.wait()).toMatchObject({ code: 0 })
}

/** Large layers that were taken from the registry: what a warm worker has no need of. */
async function pulled(fleet: TestFleet): Promise<LoggedRequest[]> {
  const large = new Set<string>()
  const http = new HttpRegistry()
  for (const tag of ['cache', 'branch']) {
    const reference = tag === 'cache' ? { path: 'shop/bake-cache', tag: 'web.main' } : { path: 'shop/web', tag: 'branch-main' }
    const manifest = await http.manifest({ host: fleet.registry.host, ...reference })
    const { layers } = JSON.parse(Buffer.from(manifest!.bytes).toString('utf8')) as { layers: { digest: string; size: number }[] }
    for (const { digest, size } of layers) if (size > 500_000) large.add(digest)
  }
  expect(large.size).toBeGreaterThanOrEqual(2)
  return (await fleet.registry.requests()).filter(({ method, path }) => method === 'GET' && large.has(path.split('/').at(-1)!))
}

const engineFor = (fleet: TestFleet) => startEngine({ reach: [fleet.registry.host] })
const on = (engine: OwnEngine, more: Record<string, string> = {}) => ({ env: { DOCKER_HOST: engine.host, ...more } })
const memberOf = (fleet: TestFleet, name: string): Promise<WorkerDocument | undefined> =>
  read(fleet.ledger, keys.worker(name), workerDocumentSchema)

const isWarmFor = (fleet: TestFleet, name: string) =>
  waitFor(async () => (await memberOf(fleet, name))?.warm.find(({ image, by }) => image === 'web' && by === 'warmed'), {
    what: `${name} to be warm`,
    deadlineMs: 90_000,
    intervalMs: 250,
  })

describe.runIf(isRoot)('what makes a build fast', () => {
  test(
    'caches of a worker that never built the image, filled before its first job, from the registry, or by its own builds',
    LONG,
    async () => {
      await using fleet = await makeFleet({ files: await files() })
      await using engines = new AsyncDisposableStack()
      const [first, second, third] = await Promise.all([1, 2, 3].map(() => engineFor(fleet)))
      for (const engine of [first!, second!, third!]) engines.use(engine)

      const one = await fleet.worker('one', on(first!))
      const cold = await build(fleet, {})
      expect(cold).toMatchObject({ status: 'built', warmth: 'cold', steps: { cached: 0 } })
      const latest = await read(fleet.ledger, keys.latest('web'), latestDocumentSchema)
      expect(latest).toMatchObject({ build: cold.build, digest: cold.digest, job: { image: 'web', commit: cold.commit } })
      expect(await build(fleet, { 'web/server.js': '// second\n' })).toMatchObject({ worker: 'one', warmth: 'built-here' })
      await stop(one)

      const before = await Promise.all(['claims/', 'builds/', 'images/'].map((prefix) => fleet.ledger.list(prefix)))
      await fleet.registry.clearRequests()
      const two = await fleet.worker('two', on(second!))
      expect(await pulled(fleet)).not.toEqual([])
      const written = (await fleet.registry.requests()).filter(({ method }) => !['GET', 'HEAD'].includes(method))
      expect(written, 'warming writes nothing to the registry').toEqual([])
      expect(await Promise.all(['claims/', 'builds/', 'images/'].map((prefix) => fleet.ledger.list(prefix)))).toEqual(before)
      expect(await new DockerEngine({ DOCKER_HOST: second!.host }).image('bake-warm:two-0'), 'no name is left').toBeUndefined()
      await isWarmFor(fleet, 'two')

      await fleet.registry.clearRequests()
      const warmed = await build(fleet, { 'web/source': 'a changed line\n' })
      expect(warmed).toMatchObject({ worker: 'two', warmth: 'warmed' })
      expect(await pulled(fleet), 'every layer was here').toEqual([])
      const table = await fleet.bake(['builds', '--limit', '1'])
      expect(table.stdout).toMatch(/CACHES[\s\S]*warmed/)
      const log = await fleet.bake(['logs', warmed.build])
      expect(log.stdout + log.stderr).toMatch(/caches: warmed on two \d+ min ago/)
      await stop(two)

      const three = await fleet.worker('three', on(third!, NOTHING))
      await fleet.registry.clearRequests()
      expect(await build(fleet, { 'web/source': 'another\n' })).toMatchObject({ worker: 'three', warmth: 'registry' })
      expect(await pulled(fleet)).not.toEqual([])
      await stop(three)
    },
  )

  test('an idle worker follows what others publish', LONG, async () => {
    await using fleet = await makeFleet({ files: await files() })
    await using first = await engineFor(fleet)
    await using second = await engineFor(fleet)
    const one = await fleet.worker('one', on(first))
    const built = await build(fleet, {})
    await stop(one)
    const two = await fleet.worker('two', on(second, { BAKE_WARM_SECONDS: '0', BAKE_FOLLOW_SECONDS: '0.5' }))
    await isWarmFor(fleet, 'two')
    await fleet.registry.clearRequests()
    const warmed = await build(fleet, { 'web/server.js': '// next\n' })
    expect(warmed).toMatchObject({ worker: 'two', warmth: 'warmed' })
    expect(warmed.digest).not.toBe(built.digest)
    expect(await pulled(fleet)).toEqual([])
    await stop(two)
  })

  test('an image whose secrets a worker doesn’t have is left out, and builds there no differently', LONG, async () => {
    const secret = 'RUN --mount=type=secret,id=token head -c 4 /run/secrets/token > /used\n'
    await using fleet = await makeFleet({ files: await files(secret), images: '  web: { context: web, secrets: [token] }' })
    await using first = await engineFor(fleet)
    await using second = await engineFor(fleet)
    const one = await fleet.worker('one', on(first, { BAKE_SECRET_TOKEN: 'right' }))
    await build(fleet, {})
    await stop(one)
    await fleet.registry.clearRequests()
    const two = await fleet.worker('two', on(second))
    expect(two.lines('stderr').join('\n')).toMatch(/web isn't warmed: a secret is unset or empty: token/)
    expect(await pulled(fleet)).toEqual([])
    await stop(two)
  })

  test('a step that no cache has is given up, and the worker takes jobs', LONG, async () => {
    const slow = 'RUN head -c 1 /dev/urandom > /slow; while [ -e /slow ]; do head -c 100000000 /dev/zero > /dev/null; done\n'
    await using fleet = await makeFleet({ files: await files() })
    await using first = await engineFor(fleet)
    await using second = await engineFor(fleet)
    const one = await fleet.worker('one', on(first))
    const built = await build(fleet, {})
    await stop(one)
    // What the ledger says was published has a step that the registry's cache doesn't have: it never ends.
    const latest = (await read(fleet.ledger, keys.latest('web'), latestDocumentSchema))!
    const dockerfile = (await files(slow))['web/Dockerfile']!
    await fleet.repo.commit({ 'web/Dockerfile': dockerfile })
    const plan = await fleet.bake(['image', '--dry-run', '--json'])
    const [image] = (JSON.parse(plan.stdout) as { images: { key: string }[] }).images
    const commit = await fleet.repo.git('rev-parse', 'HEAD')
    await fleet.ledger.put(keys.latest('web'), { ...latest, job: { ...latest.job, commit, key: image!.key } })
    const two = await fleet.worker('two', on(second))
    expect(two.lines('stderr').join('\n')).toMatch(/web isn't warmed: no cache has the step .*RUN head.* longer than 10 s/)
    await fleet.repo.git('reset', '-q', '--hard', built.commit)
    expect(await build(fleet, { 'web/server.js': '// next\n' })).toMatchObject({ worker: 'two', warmth: 'registry' })
    await stop(two)
  })
})
