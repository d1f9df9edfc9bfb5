import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { type AwsFault, type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'

/** More often than the SDK tries one call. */
const BEYOND_THE_SDK = 6

let moto: Moto
let proxy: AwsProxy
beforeAll(async () => {
  moto = await startMoto()
  proxy = await startAwsProxy(moto.endpoint)
  Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL: proxy.endpoint })
})
afterAll(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto[Symbol.asyncDispose]()
})
afterEach(() => {
  proxy.heal()
  proxy.latencyMs = {}
})

describe('S3Ledger when S3', () => {
  let ledger: S3Ledger
  let other: S3Ledger
  beforeEach(async () => {
    const bucket = await moto.createBucket()
    ledger = new S3Ledger({ region: MOTO_REGION, bucket })
    other = new S3Ledger({ region: MOTO_REGION, bucket, endpoint: moto.endpoint })
  })
  const put = { service: 's3', action: 'PUT' }
  const read = { service: 's3', action: 'GET' }

  it('is slow: works, slowly', async () => {
    proxy.latencyMs = { s3: 700 }
    const started = performance.now()
    expect(await ledger.create('a', { n: 1 })).toBe(true)
    expect(await ledger.get('a')).toEqual({ n: 1 })
    expect(performance.now() - started).toBeGreaterThan(1_400)
  })

  it('answers a create only after its time-out, when the next try has won already: it is still ours, once', async () => {
    proxy.inject(put, { delayMs: 12_000 }, 1)
    expect(await ledger.create('a', { n: 1 })).toBe(true)
    expect(await other.create('a', { n: 2 })).toBe(false)
    expect(await other.get('a')).toEqual({ n: 1 })
    expect(proxy.faults).toBeGreaterThan(0)
  })

  it.each([
    ['500 InternalError', { status: 500, code: 'InternalError' }],
    ['503 SlowDown', { status: 503, code: 'SlowDown' }],
    ['a reset connection', 'reset'],
  ] satisfies [string, AwsFault][])('answers with %s now and then: every verb works', async (_, fault) => {
    const before = proxy.faults
    for (const pattern of [put, read, { service: 's3', action: 'HEAD' }]) proxy.inject(pattern, fault, 1)
    expect(await ledger.create('a', { n: 1 })).toBe(true)
    expect(await ledger.get('a')).toEqual({ n: 1 })
    expect(await ledger.age('a')).toBeLessThan(60_000)
    for (const pattern of [put, read]) proxy.inject(pattern, fault, 1)
    await ledger.put('a', { n: 2 })
    expect(await ledger.list('')).toEqual(['a'])
    expect(await other.get('a')).toEqual({ n: 2 })
    expect(proxy.faults - before).toBe(5)
  })

  it('is down: says so, with the object, and works again when it is back', async () => {
    proxy.inject({ service: 's3' }, { status: 500, code: 'InternalError' })
    const down = { code: 'ledger_unreachable', exit: 4, kind: 'world', ids: { object: expect.stringMatching(/^s3:\/\/.*\/a$/) } }
    await expect(ledger.get('a')).rejects.toMatchObject(down)
    await expect(ledger.put('a', {})).rejects.toMatchObject(down)
    await expect(ledger.age('a')).rejects.toMatchObject(down)
    await expect(ledger.list('a')).rejects.toMatchObject(down)
    proxy.heal()
    expect(await ledger.get('a')).toBeUndefined()
  })

  it('slows us down for good: says so', async () => {
    proxy.inject(read, { status: 503, code: 'SlowDown' })
    await expect(ledger.get('a')).rejects.toMatchObject({ code: 'ledger_throttled', exit: 4, kind: 'world' })
  })

  it('denies: says so at once, and names what is needed', async () => {
    proxy.inject({ service: 's3' }, { status: 403, code: 'AccessDenied' })
    const denied = { code: 'ledger_denied', exit: 4, next: expect.stringContaining('s3:ListBucket') }
    const before = proxy.faults
    await expect(ledger.create('a', {})).rejects.toMatchObject(denied)
    await expect(ledger.age('a')).rejects.toMatchObject(denied)
    expect(proxy.faults - before).toBe(2)
  })

  it('finds another conditional write going on (409): the create is tried again', async () => {
    const conflict = { status: 409, code: 'ConditionalRequestConflict' }
    proxy.inject(put, conflict, 2)
    expect(await ledger.create('free', { by: 'us' })).toBe(true)
    await other.create('taken', { by: 'them' })
    proxy.inject(put, conflict, 1)
    expect(await ledger.create('taken', { by: 'us' })).toBe(false)
    expect(await ledger.get('free')).toEqual({ by: 'us' })
    expect(await ledger.get('taken')).toEqual({ by: 'them' })
  })

  it.each([1, BEYOND_THE_SDK])('loses the answer to a create that it carried out, %i times: it is ours', async (times) => {
    proxy.inject(put, 'lost', times)
    expect(await ledger.create('a', { by: 'us' })).toBe(true)
    expect(await other.create('a', { by: 'them' })).toBe(false)
    expect(await other.get('a')).toEqual({ by: 'us' })
  })

  it('loses the answer to a create that somebody else had won: it is theirs', async () => {
    await other.create('a', { by: 'them' })
    proxy.inject(put, 'lost', 2)
    expect(await ledger.create('a', { by: 'us' })).toBe(false)
  })

  it('loses the answers to the read-back too: the create is decided when it answers again', async () => {
    proxy.inject(put, 'lost', 1)
    proxy.inject({ service: 's3', action: 'HEAD' }, 'reset', BEYOND_THE_SDK)
    expect(await ledger.create('a', { by: 'us' })).toBe(true)
  })

  it('is down for longer than the SDK tries while a create is under way: it is decided when S3 is back', async () => {
    proxy.inject(put, 'lost', 1)
    proxy.inject({ service: 's3' }, { status: 500, code: 'InternalError' })
    const made = ledger.create('a', { by: 'us' })
    await sleep(6_000)
    proxy.heal()
    expect(await made).toBe(true)
    expect(await other.get('a')).toEqual({ by: 'us' })
  })

  it('breaks off in the middle of an answer: documents, chunks and lists arrive whole', async () => {
    const text = 'x'.repeat(50_000)
    await ledger.put('a', { text })
    await ledger.append('log', 0, Buffer.from(text))
    for (const act of [
      async () => expect(await ledger.get('a')).toEqual({ text }),
      async () => expect((await ledger.chunk('log', 0))?.length).toBe(50_000),
      async () => expect(await ledger.list('')).toEqual(['a', 'log/00000000']),
    ]) {
      const before = proxy.faults
      proxy.inject(read, 'torn', 2)
      await act()
      expect(proxy.faults - before).toBe(2)
    }
  })
})

describe('SqsQueue when SQS', () => {
  let queue: SqsQueue
  beforeEach(async () => {
    queue = await SqsQueue.open({ region: MOTO_REGION, prefix: await moto.createQueues() })
  })
  afterEach(() => queue.close())
  const now = { max: 10, waitSeconds: 0, visibilitySeconds: 30 }
  const faults: [string, AwsFault][] = [
    ['throttles', { status: 400, code: 'ThrottlingException' }],
    ['throttles by its old name', { status: 403, code: 'RequestThrottled' }],
    ['answers 500', { status: 500, code: 'InternalFailure' }],
    ['answers 503', { status: 503, code: 'ServiceUnavailable' }],
    ['resets connections', 'reset'],
  ]

  it.each(faults)('%s now and then: every verb works, and nothing is sent twice', async (_, fault) => {
    const before = proxy.faults
    const fail = (action: string) => proxy.inject({ service: 'sqs', action }, fault, 1)
    for (const action of ['SendMessage', 'ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage', 'GetQueueAttributes'])
      fail(action)
    await queue.send('normal', '"job"')
    const [message, ...more] = await queue.receive('normal', now)
    expect(message?.body).toBe('"job"')
    expect(more).toEqual([])
    await queue.renew(message!, 60)
    await queue.remove(message!)
    expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
    fail('SendMessage')
    await queue.send('high', '"poison"')
    const [poison] = await queue.receive('high', now)
    fail('SendMessage')
    await queue.bury(poison!, 'why')
    expect((await queue.depth()).dead).toBe(1)
    expect(proxy.faults - before).toBe(7)
  })

  it.each([
    ['throttles', { status: 400, code: 'ThrottlingException' }, 'queue_throttled'],
    ['is down', { status: 500, code: 'InternalFailure' }, 'queue_unreachable'],
    ['denies', { status: 400, code: 'AccessDeniedException' }, 'queue_denied'],
  ] satisfies [string, AwsFault, string][])('%s for good: says so', async (_, fault, code) => {
    await queue.send('normal', '"job"')
    const [message] = await queue.receive('normal', now)
    proxy.inject({ service: 'sqs' }, fault)
    const wanted = { code, exit: 4, kind: 'world' }
    await Promise.all([
      expect(queue.send('normal', '"job"')).rejects.toMatchObject(wanted),
      expect(queue.receive('normal', now)).rejects.toMatchObject(wanted),
      expect(queue.renew(message!, 30)).rejects.toMatchObject(wanted),
      expect(queue.depths()).rejects.toMatchObject(wanted),
    ])
    proxy.heal()
    await queue.renew(message!, 30)
  })

  it('loses the answer to a send: the job is there, at least once', async () => {
    proxy.inject({ service: 'sqs', action: 'SendMessage' }, 'lost', 1)
    await queue.send('normal', '"job"')
    const bodies = (await queue.receive('normal', now)).map(({ body }) => body)
    expect(bodies.length).toBeGreaterThan(0)
    expect(new Set(bodies)).toEqual(new Set(['"job"']))
  })

  it('loses the answer to a delete: deleting again is no error', async () => {
    await queue.send('normal', '"job"')
    const [message] = await queue.receive('normal', now)
    proxy.inject({ service: 'sqs', action: 'DeleteMessage' }, 'lost', 1)
    await queue.remove(message!)
    expect(await queue.depth()).toMatchObject({ visible: 0, inFlight: 0 })
  })
})
