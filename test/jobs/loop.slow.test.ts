import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LOCAL_PREFIX, LOCAL_REGION, type QueueServer, startQueueServer } from '../../src/io/host/queue-server.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { receiveBakes } from '../../src/jobs/receive-bakes.ts'
import { type StartedLoop, startLoop, testJob, until } from '../support/loop.ts'

let dir: string
let server: QueueServer
let queue: SqsQueue
const started: StartedLoop[] = []
const start: typeof startLoop = (...args) => {
  const loop = startLoop(...args)
  started.push(loop)
  return loop
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-loop-'))
  server = await startQueueServer({ port: 0, dataDir: join(dir, 'queue') })
  queue = await SqsQueue.open({ endpoint: `http://127.0.0.1:${server.port}`, region: LOCAL_REGION, prefix: LOCAL_PREFIX })
})
afterEach(async () => {
  for (const loop of started.splice(0)) await loop.stop()
  queue.close()
  await server.stop()
  await rm(dir, { recursive: true })
})

test('a job that is sent to an idle worker is received at once', async () => {
  const loop = start({ queue, dir })
  await sleep(500)
  const latencies: number[] = []
  for (let n = 1; n <= 10; n++) {
    const sent = performance.now()
    await queue.send('normal', testJob(`image-${n}`))
    await until(() => loop.taken.length === n)
    latencies.push(performance.now() - sent)
  }
  expect(latencies.sort((a, b) => a - b)[5]).toBeLessThan(1_000)
})

test('runs as many at a time as there are slots, and every job once', async () => {
  const loop = start({ queue, dir, slots: 3, ms: 20 })
  await Promise.all(Array.from({ length: 20 }, (_, n) => queue.send('normal', testJob(`image-${n}`))))
  await until(() => loop.ended.length === 20)
  expect(loop.most).toBe(3)
  expect(new Set(loop.taken).size).toBe(20)
  await until(async () => (await queue.depth()).inFlight === 0)
  expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
})

test('a slot that becomes free is the high lane’s first', async () => {
  const loop = start({ queue, dir, slots: 1, ms: 300 })
  await Promise.all(['a', 'b', 'c'].map((name) => queue.send('normal', testJob(name))))
  await until(() => loop.taken.length === 1)
  await queue.send('high', testJob('urgent'))
  await until(() => loop.taken.length === 2)
  expect(loop.taken[1]).toBe('urgent')
})

test('once takes one job, hands back nothing that it has begun, and returns', async () => {
  await Promise.all(['a', 'b', 'c'].map((name) => queue.send('normal', testJob(name))))
  const loop = start({ queue, dir, slots: 4, once: true })
  await loop.done
  expect(loop.ended).toHaveLength(1)
  expect(await queue.depth()).toMatchObject({ visible: 2, inFlight: 0 })
})

test('loops of one worker take one job between them with once', async () => {
  const finished = new AbortController()
  const bakes = start({ queue, dir, once: true, finished, receive: receiveBakes })
  const builds = start({ queue, dir, once: true, finished })
  await sleep(300)
  await queue.send('normal', testJob('a'))
  await Promise.all([builds.done, bakes.done])
  expect([builds.ended, bakes.ended]).toEqual([['a'], []])
})

test('no build waits for the bakes’ queue, and a queue that isn’t there is told of once', async () => {
  const none = await SqsQueue.open({ endpoint: `http://127.0.0.1:${server.port}`, region: LOCAL_REGION, prefix: 'nobody' })
  const bakes = start({ queue: none, dir, receive: receiveBakes })
  await until(() => bakes.problems.length > 0)
  await sleep(500)
  expect(bakes.problems).toEqual([expect.stringContaining('there is no queue nobody-ami')])
  bakes.drain.abort()
  await bakes.done
  none.close()
})

test('a drain ends the polls at once, lets what runs end, and takes nothing more', async () => {
  const loop = start({ queue, dir, slots: 2, ms: 1_000 })
  await queue.send('normal', testJob('running'))
  await until(() => loop.taken.length === 1)
  loop.drain.abort()
  const drained = performance.now()
  await queue.send('normal', testJob('later'))
  await loop.done
  expect(performance.now() - drained).toBeLessThan(10_000)
  expect(loop.ended).toEqual(['running'])
  expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 0 })
})

test('an idle worker that is drained returns at once', async () => {
  const loop = start({ queue, dir })
  await sleep(300)
  const drained = performance.now()
  loop.drain.abort()
  await loop.done
  expect(performance.now() - drained).toBeLessThan(5_000)
})

test('a job that waits without a slot lets others pass, up to 64; more go back to the queue', async () => {
  const loop = start({ queue, dir, slots: 1, waits: (image) => image.startsWith('waits') })
  await Promise.all(Array.from({ length: 70 }, (_, n) => queue.send('normal', testJob(`waits-${n}`))))
  await until(() => loop.refusedToWait > 0)
  expect(loop.waiting).toBe(64)
  await queue.send('high', testJob('passes'))
  await until(() => loop.ended.includes('passes'))
  expect(loop.waiting).toBe(64)
})

test('no request goes out while all slots are taken, and a queue that was gone is asked again', async () => {
  const loop = start({ queue, dir, slots: 1, ms: 100 })
  await sleep(300)
  const { port } = server
  await server.stop()
  await until(() => loop.problems.length > 0)
  server = await startQueueServer({ port, dataDir: join(dir, 'queue') })
  await queue.send('normal', testJob('after'))
  await until(() => loop.ended.length === 1)
  const told = loop.problems.length
  await sleep(500)
  expect(loop.problems.length).toBe(told)
})
