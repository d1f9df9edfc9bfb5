import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { waitFor } from '../../src/wait.ts'
import { type AwsFault, type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { cells } from '../support/cells.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { startGate } from '../support/gate.ts'
import { MOTO_REGION } from '../support/moto.ts'

const SLOW = { timeout: 240_000 }

/** A fleet that sees AWS through a proxy. */
async function open(): Promise<{ fleet: TestFleet; proxy: AwsProxy } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack()
  let proxy: AwsProxy | undefined
  const through = async (endpoint: string) => {
    proxy = stack.use(await startAwsProxy(endpoint))
    return proxy.endpoint
  }
  const fleet = stack.use(await makeFleet({ through }))
  const rest = stack.move()
  return { fleet, proxy: proxy!, [Symbol.asyncDispose]: () => rest.disposeAsync() }
}

/** What the claim log of the newest build's key says, in order. */
async function claimStates(ledger: S3Ledger): Promise<string[]> {
  const entries = await Promise.all((await ledger.list('claims/')).map((key) => ledger.get(key)))
  return entries.map((entry) => (entry as { state: string }).state)
}

const empty = { visible: 0, inFlight: 0, delayed: 0, dead: 0 }
const emptied = (fleet: TestFleet) =>
  waitFor(
    async () => {
      const { visible, inFlight, delayed } = await fleet.queue.depth()
      return visible + inFlight + delayed === 0 || undefined
    },
    { what: 'an empty queue', deadlineMs: 60_000, intervalMs: 200 },
  )

describe('a fleet goes on', SLOW, () => {
  test.each(
    cells([
      ['the receipt is not valid any more', { status: 400, code: 'ReceiptHandleIsInvalid' }],
      ['it is not allowed', { status: 400, code: 'AccessDeniedException' }],
    ] satisfies [string, AwsFault][]),
  )('when SQS refuses to renew a message, because %s: the build ends, once', async (_, fault) => {
    await using scene = await open()
    const { fleet, proxy } = scene
    await using gate = await startGate()
    await fleet.repo.commit({ 'web/Dockerfile': gate.dockerfile })
    await fleet.worker('one', { env: { BAKE_VISIBILITY_SECONDS: '3' } })
    proxy.inject({ service: 'sqs', action: 'ChangeMessageVisibility' }, fault)
    const asked = fleet.start(['image', '--json'])
    await gate.entered()
    // The message is visible again by now, and has been received anew.
    await sleep(8_000)
    expect(gate.waiting()).toBe(1)
    gate.open()
    const built = await asked.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(proxy.faults).toBeGreaterThan(0)
    expect(await claimStates(fleet.ledger)).toEqual(['claimed', 'published'])
    proxy.heal()
    await emptied(fleet)
  })

  test('when S3 is slow, throttles, fails, conflicts and loses answers: the image is published once', async () => {
    await using scene = await open()
    const { fleet, proxy } = scene
    const sha = await fleet.repo.commit({ 'web/server.js': `// ${randomUUID()}\n` })
    proxy.latencyMs = { s3: 20, sqs: 10 }
    const put = (about: RegExp) => ({ service: 's3', action: 'PUT', about })
    const faults: [Parameters<AwsProxy['inject']>[0], AwsFault, number][] = [
      [put(/\/claims\//), { status: 409, code: 'ConditionalRequestConflict' }, 1],
      [put(/\/claims\//), 'lost', 2],
      [put(/\/claims\//), { status: 503, code: 'SlowDown' }, 1],
      [put(/\/claims\//), { delayMs: 1_500 }, 1],
      [put(/\/builds\//), { status: 500, code: 'InternalError' }, 3],
      [put(/\/logs\//), 'reset', 2],
      [put(/\/images\//), 'lost', 1],
      [put(/\/beats\//), { status: 503, code: 'SlowDown' }, 2],
      [{ service: 's3', action: 'GET' }, { status: 500, code: 'InternalError' }, 3],
      [{ service: 's3', action: 'GET' }, 'torn', 3],
    ]
    for (const [pattern, fault, times] of faults) proxy.inject(pattern, fault, times)
    await fleet.worker('one')
    const built = await fleet.bake(['image', '--json'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    const [image] = JSON.parse(built.stdout).images
    expect(await claimStates(fleet.ledger)).toEqual(['claimed', 'published'])
    expect(await fleet.tagged(`sha-${sha}`)).toBe(image.digest)
    expect(proxy.faults).toBeGreaterThan(12)
    await emptied(fleet)
  })

  test('when SQS throttles, fails and loses answers: a job that was sent twice is built once', async () => {
    await using scene = await open()
    const { fleet, proxy } = scene
    await fleet.repo.commit({ 'web/server.js': `// ${randomUUID()}\n` })
    const on = (action: string) => ({ service: 'sqs', action })
    proxy.inject(on('SendMessage'), 'lost', 1)
    proxy.inject(on('ReceiveMessage'), { status: 400, code: 'ThrottlingException' }, 2)
    proxy.inject(on('ReceiveMessage'), { status: 500, code: 'InternalFailure' }, 2)
    proxy.inject(on('DeleteMessage'), 'lost', 1)
    proxy.inject(on('DeleteMessage'), { status: 503, code: 'ServiceUnavailable' }, 1)
    await fleet.worker('one', { env: { BAKE_VISIBILITY_SECONDS: '3' } })
    const built = await fleet.bake(['image', '--json'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(await claimStates(fleet.ledger)).toEqual(['claimed', 'published'])
    await emptied(fleet)
    expect(proxy.faults).toBe(7)
    expect(await fleet.queue.depth()).toEqual(empty)
  })
})

test('two fleets on one bucket with different prefixes see nothing of each other', SLOW, async () => {
  await using fleet = await makeFleet({ yaml: 'fleet: { prefix: one }' })
  await fleet.worker('one')
  const first = await fleet.bake(['image', '--json'])
  expect(first, first.stderr).toMatchObject({ code: 0 })

  // The same commit's content, the same bucket and registry; another queue and prefix.
  const queue = await fleet.moto.createQueues()
  const yaml = (await fleet.repo.git('show', 'HEAD:bake.yaml'))
    .replace('prefix: one', 'prefix: two')
    .replace(/queue: [\w-]+/, `queue: ${queue}`)
  await fleet.repo.commit({ 'bake.yaml': yaml })
  expect(JSON.parse((await fleet.bake(['builds', '--json'])).stdout).builds).toEqual([])
  const dir = join(fleet.home, 'two')
  await mkdir(dir)
  await writeFile(join(dir, 'bake.yaml'), yaml)
  await using worker = fleet.start(['worker', '--name', 'two'], { cwd: dir })
  await worker.waitFor('stderr', /is ready/, 60_000)
  const second = await fleet.bake(['image', '--json'])
  expect(second, second.stderr).toMatchObject({ code: 0 })
  expect(JSON.parse(second.stdout).images[0]).toMatchObject({ status: 'built' })

  const all = await fleet.ledger.list('')
  expect(all.filter((key) => !/^(one|two)\//.test(key))).toEqual([])
  const keysOf = async (prefix: string) => {
    const ledger = new S3Ledger({ region: MOTO_REGION, bucket: fleet.bucket, prefix, endpoint: fleet.moto.endpoint })
    return { builds: (await ledger.list('builds/')).length, claims: await claimStates(ledger) }
  }
  expect(await keysOf('one')).toEqual({ builds: 1, claims: ['claimed', 'published'] })
  expect(await keysOf('two')).toEqual({ builds: 1, claims: ['claimed', 'published'] })
})
