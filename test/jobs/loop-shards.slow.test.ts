import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { type LoopSettings, type StartedLoop, startLoop, testJob, until } from '../support/loop.ts'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'

let moto: Moto
let dir: string
let prefix: string
const opened: SqsQueue[] = []
const started: StartedLoop[] = []
const openQueue = async (shards: number) => {
  const queue = await SqsQueue.open({ region: MOTO_REGION, prefix, shards })
  opened.push(queue)
  return queue
}
const start = async (shards: number, settings: Omit<LoopSettings, 'queue' | 'dir'>) => {
  const loop = startLoop({ queue: await openQueue(shards), dir, stealAfterMs: 60_000, ...settings })
  started.push(loop)
  return loop
}

beforeAll(async () => {
  moto = await startMoto()
  for (const [name, value] of Object.entries(moto.env)) vi.stubEnv(name, value)
})
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-loop-'))
  prefix = await moto.createQueues({ shards: 4 })
})
afterEach(async () => {
  for (const loop of started.splice(0)) await loop.stop()
  for (const queue of opened.splice(0)) queue.close()
  await rm(dir, { recursive: true })
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await moto[Symbol.asyncDispose]()
})

test('each worker takes the jobs of its own shards, at once', async () => {
  const asker = await openQueue(4)
  const [one, two] = [await start(4, { shards: () => [0, 1] }), await start(4, { shards: () => [2, 3] })]
  await sleep(1_000)
  for (let n = 0; n < 12; n++) {
    const sent = performance.now()
    await asker.send(n % 3 === 0 ? 'high' : 'normal', testJob(`image-${n}`), n % 4)
    await until(() => one.taken.length + two.taken.length === n + 1)
    expect(performance.now() - sent).toBeLessThan(4_000)
  }
  expect(one.taken.map((image) => Number(image.slice(6)) % 4).filter((shard) => shard > 1)).toEqual([])
  expect(two.taken.map((image) => Number(image.slice(6)) % 4).filter((shard) => shard < 2)).toEqual([])
})

test('nothing starves when the workers of a shard are all dead: others take it, both lanes', async () => {
  const asker = await openQueue(4)
  const loop = await start(4, { shards: () => [0, 1], slots: 2 })
  await asker.send('normal', testJob('orphan'), 3)
  await asker.send('high', testJob('orphan-high'), 2)
  await until(() => loop.ended.length === 2)
  expect(loop.ended.toSorted()).toEqual(['orphan', 'orphan-high'])
})

test('a worker that always has work of its own takes from another shard every steal_after', async () => {
  const asker = await openQueue(4)
  await Promise.all(Array.from({ length: 40 }, (_, n) => asker.send('normal', testJob(`own-${n}`), n % 2)))
  await asker.send('normal', testJob('waits'), 3)
  const loop = await start(4, { shards: () => [0, 1], ms: 300, stealAfterMs: 2_000 })
  await until(() => loop.ended.includes('waits'))
  expect(loop.ended.length).toBeLessThan(40)
  expect(loop.ended.length).toBeGreaterThan(1)
})

test('when shards move, the new ones are polled and nothing is lost', async () => {
  const asker = await openQueue(4)
  let own = [0, 1]
  const loop = await start(4, { shards: () => own })
  await asker.send('normal', testJob('before'), 0)
  await until(() => loop.ended.length === 1)
  own = [2, 3]
  await asker.send('normal', testJob('old'), 1)
  await asker.send('normal', testJob('new'), 3)
  await until(() => loop.ended.length === 3)
  expect(loop.problems).toEqual([])
})

test('what the queues of a larger K still hold is worked off after K was made smaller', async () => {
  const before = await openQueue(4)
  await Promise.all([1, 2, 3].map((shard) => before.send('normal', testJob(`left-${shard}`), shard)))
  const loop = await start(1, {})
  await until(() => loop.ended.length === 3)
  expect(loop.problems).toEqual([])
})

test('a drain ends the polls of all shards at once', async () => {
  const loop = await start(4, { shards: () => [0, 1] })
  await sleep(1_000)
  const drained = performance.now()
  loop.drain.abort()
  await loop.done
  expect(performance.now() - drained).toBeLessThan(5_000)
})
