import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LOCAL_PREFIX, LOCAL_REGION, type QueueServer, startQueueServer } from '../../src/io/host/queue-server.ts'
import { MAX_BODY_BYTES } from '../../src/io/queue-body.ts'
import { localSender } from '../../src/io/queue-sender.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'

let dataDir: string
let server: QueueServer
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
  server = await startQueueServer({ port: 0, dataDir })
})
afterAll(async () => {
  await server.stop()
  await rm(dataDir, { recursive: true })
})

test.each(['normal', 'high'] as const)('what it sends to the %s lane, the SDK receives', async (lane) => {
  const endpoint = `http://127.0.0.1:${server.port}`
  const queue = await SqsQueue.open({ endpoint, region: LOCAL_REGION, prefix: LOCAL_PREFIX })
  await localSender(() => endpoint, LOCAL_PREFIX).send(lane, JSON.stringify({ text: 'naïve 🍞 \uffff "quoted"' }))
  const [message] = await queue.receive(lane, { max: 1, waitSeconds: 5, visibilitySeconds: 30 })
  expect(JSON.parse(message!.body)).toEqual({ text: 'naïve 🍞 \uffff "quoted"' })
  await queue.remove(message!)
  queue.close()
})

test('a host that comes back on another port while it is tried gets the job', async () => {
  let asked = 0
  const endpoint = () => (asked++ < 3 ? 'http://127.0.0.1:1' : `http://127.0.0.1:${server.port}`)
  await localSender(endpoint, LOCAL_PREFIX).send('normal', '{}')
  expect(server.pending()).toBe(1)
})

test('too large a job is refused, a queue that refuses or isn’t there is told as such', async () => {
  const endpoint = `http://127.0.0.1:${server.port}`
  await expect(localSender(() => endpoint, LOCAL_PREFIX).send('normal', 'x'.repeat(MAX_BODY_BYTES + 1))).rejects.toMatchObject({
    code: 'message_too_large',
    exit: 2,
  })
  await expect(localSender(() => endpoint, 'nope').send('normal', '{}')).rejects.toMatchObject({
    code: 'queue_unreachable',
    exit: 4,
  })
  await expect(localSender(() => 'http://127.0.0.1:1', LOCAL_PREFIX).send('normal', '{}')).rejects.toMatchObject({
    code: 'queue_unreachable',
    exit: 4,
  })
})
