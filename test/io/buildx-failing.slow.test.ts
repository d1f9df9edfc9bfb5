import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BASE, openWorkshop, type Workshop } from './support/building.ts'
import { startEngineProxy } from './support/engine-proxy.ts'

let registry: TestRegistry
let shop: Workshop
beforeAll(async () => {
  registry = await startRegistry()
  shop = await openWorkshop()
})
afterAll(async () => {
  await shop[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
})

const SMALL = 'FROM scratch\nCOPY unique /\n'
const failing = async (dockerfile: string, more: Parameters<Workshop['request']>[1] = {}) =>
  shop.build(await shop.request(dockerfile, { push: [`${registry.host}/failing:1`], ...more }))

describe('the user’s failures (exit 3)', () => {
  test('a failing RUN: step, exit code, line, its last lines and no others', async () => {
    const { error, events } = await failing(
      `FROM ${BASE}\nARG UNIQUE\nRUN echo earlier\nRUN for i in $(seq 1 30); do echo "line $i no space left on device"; done; sleep 0.3; echo sorry >&2; exit 7\n`,
    )
    expect(error).toMatchObject({ kind: 'user', code: 'dockerfile_failed', exit: 3 })
    const { message, ids } = error as { message: string; ids: Record<string, string> }
    const [summary, ...tail] = message.split('\n')
    expect(summary).toMatch(/^\[3\/3\] RUN for i in .*: exit code 7 \(Dockerfile line 4\)$/)
    expect(tail).toHaveLength(20)
    expect(tail).toContain('  line 30 no space left on device')
    expect(tail).toContain('  sorry')
    expect(ids).toMatchObject({ line: '4', exit_code: '7', step: expect.stringMatching(/^\[3\/3\]/) })
    expect(events.filter((event) => event.type === 'step' && event.state === 'failed')).toHaveLength(1)
  })

  test.each([
    ['a missing COPY source', `FROM ${BASE}\nCOPY nope /\n`, /nope isn't in the context \(Dockerfile line 2\)/],
    [
      'a missing COPY --from source',
      `FROM ${BASE} AS a\nFROM ${BASE}\nCOPY --from=a /nope /\n`,
      /nope isn't in the stage it is copied from/,
    ],
    ['an unknown instruction', `FROM ${BASE}\nRUNN x\n`, /unknown instruction: RUNN .*\(Dockerfile line 2\)/],
    ['an empty Dockerfile', '', /the Dockerfile cannot be empty/],
    ['a Dockerfile without FROM', 'RUN x\n', /no build stage in current context/],
    [
      'a secret that is required and not given',
      `FROM ${BASE}\nRUN --mount=type=secret,id=tok,required=true true\n`,
      /needs the secret tok/,
    ],
    ['ssh that is required and not given', `FROM ${BASE}\nRUN --mount=type=ssh,required=true true\n`, /needs ssh \(default\)/],
  ])('%s', async (_, dockerfile, message) => {
    const { error } = await failing(dockerfile)
    expect(error).toMatchObject({ kind: 'user', code: 'dockerfile_failed', exit: 3, message: expect.stringMatching(message) })
  })

  test('an unknown target', async () => {
    const { error } = await failing(SMALL, { target: 'web' })
    expect(error).toMatchObject({ code: 'dockerfile_failed', message: 'the Dockerfile has no stage web' })
  })

  test('a base image that its registry does not have', async () => {
    const { error } = await failing(`FROM ${registry.host}/nothing:1\n`)
    expect(error).toMatchObject({
      kind: 'user',
      code: 'base_not_found',
      exit: 3,
      ids: { reference: `${registry.host}/nothing:1` },
    })
  })

  test('an error that nobody knows', async () => {
    const { error } = await failing(SMALL, { push: [`${registry.host}/Upper:1`] })
    expect(error).toMatchObject({
      kind: 'user',
      code: 'build_failed',
      exit: 3,
      message: expect.stringContaining('invalid reference format'),
    })
  })
})

describe('the world’s failures (exit 4)', () => {
  test('the registry of a base image is down', async () => {
    const { error } = await failing('FROM localhost:1/base:1\n')
    expect(error).toMatchObject({ kind: 'world', code: 'base_pull_failed', exit: 4 })
  })

  test('the registry to push to is down', async () => {
    const gone = await startRegistry()
    await gone[Symbol.asyncDispose]()
    const { error } = await failing(SMALL, { push: [`${gone.host}/x:1`] })
    expect(error).toMatchObject({ kind: 'world', code: 'registry_unreachable', exit: 4, ids: { reference: `${gone.host}/x:1` } })
  })

  test('the registry wants a login', async () => {
    await using strict = await startRegistry({ auth: true })
    const { error } = await failing(SMALL, { push: [`${strict.host}/x:1`] })
    expect(error).toMatchObject({ kind: 'world', code: 'registry_denied', exit: 4 })
  })

  test('the registry has an error of its own', async () => {
    await using broken = await startBrokenRegistry(503, '{}')
    const { error } = await failing(SMALL, { push: [`${broken.host}/x:1`] })
    expect(error).toMatchObject({ kind: 'world', code: 'registry_error', exit: 4 })
  })

  test.runIf(process.getuid?.() === 0)('the registry’s disk is full', async () => {
    const root = await mkdtemp(join(tmpdir(), 'bake-full-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', root])
    try {
      await using small = await startRegistry({ root })
      await writeFile(join(root, 'filler'), Buffer.alloc(2 << 20)).catch(() => {})
      const { error } = await failing(SMALL, { push: [`${small.host}/x:1`] })
      expect(error).toMatchObject({ kind: 'world', code: 'registry_full', exit: 4 })
    } finally {
      execFileSync('umount', [root])
      await rm(root, { recursive: true })
    }
  })

  test.runIf(process.getuid?.() === 0)('the disk under the engine is full when a step fails', async () => {
    const dataRoot = await mkdtemp(join(tmpdir(), 'bake-disk-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dataRoot])
    try {
      const request = await shop.request(`FROM ${BASE}\nARG UNIQUE\nRUN exit 1\n`, { push: [`${registry.host}/failing:1`] })
      expect((await shop.build(request, { dataRoot })).error).toMatchObject({ kind: 'world', code: 'disk_full', exit: 4 })
      expect((await shop.build(request, { dataRoot: tmpdir() })).error).toMatchObject({ kind: 'user', code: 'dockerfile_failed' })
    } finally {
      execFileSync('umount', [dataRoot])
      await rm(dataRoot, { recursive: true })
    }
  })

  test('no engine', async () => {
    const request = await shop.request(SMALL, { push: [`${registry.host}/x:1`] })
    const env = { ...process.env, DOCKER_HOST: 'unix:///nowhere/docker.sock' }
    expect((await shop.build(request, { env })).error).toMatchObject({ kind: 'world', code: 'engine_gone', exit: 4 })
  })

  test('the engine goes away in the middle of a step', async () => {
    await using proxy = await startEngineProxy()
    const request = await shop.request(`FROM ${BASE}\nARG UNIQUE\nRUN echo here; sleep 60\n`, { push: [`${registry.host}/x:1`] })
    const { error, events } = await shop.build(request, {
      env: { ...process.env, DOCKER_HOST: proxy.host },
      onEvent: (event) => (event.type === 'line' ? proxy.cut() : undefined),
    })
    expect(error).toMatchObject({ kind: 'world', code: 'engine_gone', exit: 4 })
    expect(events.at(-1)).toMatchObject({ type: 'step', state: 'canceled' })
  })

  test('ssh is asked for and there is no agent', async () => {
    const request = await shop.request(SMALL, { ssh: ['default'], push: [`${registry.host}/x:1`] })
    const { SSH_AUTH_SOCK: _, ...env } = process.env
    expect((await shop.build(request, { env })).error).toMatchObject({ kind: 'world', code: 'ssh_agent_missing', exit: 4 })
  })
})

test.each([
  ['refuses', async () => startRegistry({ auth: true })],
  ['is broken', async () => startBrokenRegistry(500, '{}')],
  [
    'is down',
    async () => {
      const down = await startRegistry()
      await down.stop()
      return down
    },
  ],
])('a build whose cache registry %s succeeds with a warning', async (_, start) => {
  await using other = await start()
  const cache = `${other.host}/cache:main`
  const { error, digest, events } = await failing(SMALL, { cacheFrom: [cache], cacheTo: cache })
  expect(error).toBeUndefined()
  expect(digest).toMatch(/^sha256:/)
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.text] : []))
  expect(warnings).toEqual([expect.stringMatching(/^no cache read from/), expect.stringMatching(/^build cache not written: /)])
})

/** A registry that answers everything after `GET /v2/` with `status`. */
async function startBrokenRegistry(status: number, body: string): Promise<{ host: string } & AsyncDisposable> {
  const server = createServer((request, response) => {
    response.writeHead(request.url === '/v2/' ? 200 : status).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    host: `localhost:${address.port}`,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}
