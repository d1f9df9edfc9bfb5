import { expect, test } from 'vitest'
import type { Ask } from '../../src/jobs/asks.ts'
import { Polling } from '../../src/jobs/poll.ts'

const OWN = [3, 1]
/** `stealAfterMs` 0: it never asks others. */
const open = (shards: number, stealAfterMs = 60_000) =>
  new Polling({ shards, stealAfterMs: stealAfterMs || undefined, random: () => 0.5 }, 0)
const told = (asks: Ask[]) => asks.map(({ lane, shard, waitSeconds }) => `${lane} ${shard} ${waitSeconds === 0 ? 'now' : 'wait'}`)

interface Made {
  ask: Ask
  atMs: number
  /** Its message got the slot. */
  taken: boolean
}

/**
 * Runs virtual time to `untilMs` for a worker with one slot, which a message takes for `jobMs`, with queues that answer as `holds` says. Quick asks
 * and those that find something take 20 ms, empty long polls all of their time.
 */
function run(polling: Polling, untilMs: number, { own = OWN, jobMs = 0, holds = (_: Ask): number | 'missing' => 0 }) {
  const made: Made[] = []
  let underway: { asked: Made; endMs: number; answer: number | 'missing' }[] = []
  let busyMs = 0
  for (let nowMs = 0; nowMs < untilMs; ) {
    for (const ask of polling.next(nowMs, busyMs > nowMs ? 0 : 1, own)) {
      const answer = holds(ask)
      const asked = { ask, atMs: nowMs, taken: false }
      made.push(asked)
      underway.push({ asked, answer, endMs: nowMs + (answer === 0 && ask.waitSeconds > 0 ? ask.waitSeconds * 1000 : 20) })
    }
    const next = Math.min(polling.dueMs(nowMs), ...underway.map(({ endMs }) => endMs), ...(busyMs > nowMs ? [busyMs] : []))
    expect(next).toBeGreaterThan(nowMs)
    nowMs = next
    for (const { asked, answer } of underway.filter(({ endMs }) => endMs <= nowMs)) {
      polling.answered(asked.ask, answer, nowMs)
      if (typeof answer !== 'number' || answer === 0 || busyMs > nowMs) continue
      asked.taken = true
      busyMs = nowMs + jobMs
    }
    underway = underway.filter(({ endMs }) => endMs > nowMs)
  }
  return made
}

test('one queue: the high lane first, then long polls on both lanes, and nothing else ever', () => {
  const polling = open(1, 0)
  const first = polling.next(0, 1, [0])
  expect(told(first)).toEqual(['high 0 now'])
  expect(polling.next(1, 1, [0])).toEqual([])
  polling.answered(first[0]!, 0, 20)
  expect(told(polling.next(20, 1, [0]))).toEqual(['high 0 wait', 'normal 0 wait'])
  const hour = run(open(1, 0), 3_600_000, { own: [0] })
  expect(new Set(told(hour.map(({ ask }) => ask)))).toEqual(new Set(['high 0 now', 'high 0 wait', 'normal 0 wait']))
  expect(hour.length).toBeLessThan(365)
})

test('one free slot is never asked for twice before long polls are out', () => {
  const made = run(open(4), 200, {})
  const quick = made.filter(({ ask }) => ask.waitSeconds === 0)
  expect(quick.map(({ atMs }) => atMs)).toEqual([0, 20, 40])
  expect(told(made.map(({ ask }) => ask))).toEqual([
    ...['high 3 now', 'high 1 now', 'high 3 wait', 'high 1 wait'],
    ...['normal 3 now', 'normal 3 wait', 'normal 1 wait'],
  ])
})

test('nothing is asked while all slots are taken; what becomes free is the high lanes’ first', () => {
  const polling = open(4)
  expect(polling.next(0, 0, OWN)).toEqual([])
  expect(told(polling.next(1_000, 2, OWN))).toEqual(['high 3 now', 'high 1 now'])
})

test('two normal lanes with messages take turns, and give a free slot no second message', () => {
  const made = run(open(4, 0), 20_000, { jobMs: 500, holds: ({ lane }) => (lane === 'normal' ? 1 : 0) })
  const taken = made.filter((each) => each.taken).map(({ ask }) => ask.shard)
  expect(taken.length).toBeGreaterThan(30)
  expect(taken.slice(0, 6)).toEqual([3, 1, 3, 1, 3, 1])
  expect(made.filter(({ ask, taken }) => ask.lane === 'normal' && !taken).length).toBeLessThan(3)
})

test('an idle worker asks every other queue within half a minute, and costs what the docstring says', () => {
  const made = run(open(20), 3_600_000, { holds: ({ shard }) => (shard >= 20 ? 'missing' : 0) })
  const others = new Set(
    made.filter(({ ask, atMs }) => ask.shard < 20 && atMs < 30_000).map(({ ask }) => `${ask.lane} ${ask.shard}`),
  )
  expect(others.size).toBe(40)
  expect(made.length).toBeGreaterThan(6_500)
  expect(made.length).toBeLessThan(7_900)
})

test('who finds something in another shard helps out there, until that brings nothing for a quarter of an hour', () => {
  let left = 1
  const made = run(open(8), 3_600_000, { holds: ({ shard }) => (shard === 6 && left > 0 ? left-- : 0) })
  const waits = made.filter(({ ask }) => ask.shard === 6 && ask.lane === 'normal' && ask.waitSeconds > 0).map(({ atMs }) => atMs)
  expect(waits.length).toBeGreaterThan(40)
  expect(waits.at(-1)).toBeLessThan(16 * 60_000)
})

test('a worker whose own queues always hold something still takes from each of the others, one at a time', () => {
  const made = run(open(6, 10_000), 300_000, { jobMs: 1_000, holds: ({ lane }) => (lane === 'normal' ? 1 : 0) })
  // The first one that it finds it helps with: that is its own then.
  const taken = made.filter((each) => each.taken && !OWN.includes(each.ask.shard))
  expect(new Set(taken.map(({ ask }) => ask.shard))).toEqual(new Set([0, 2, 4, 5]))
  for (const shard of [0, 2, 4, 5]) {
    const times = [0, ...taken.filter(({ ask }) => ask.shard === shard).map(({ atMs }) => atMs), 300_000]
    expect(Math.max(...times.slice(1).map((atMs, n) => atMs - times[n]!))).toBeLessThan(4 * 13_000)
  }
  expect(made.filter((each) => each.taken && OWN.includes(each.ask.shard)).length).toBeGreaterThan(100)
})

test('queues beyond its own K are found and worked off; one that isn’t there is asked for every ten minutes', () => {
  const made = run(open(2), 3_600_000, { own: [0, 1], holds: ({ shard }) => (shard >= 4 ? 'missing' : 0) })
  const of = (shard: number) => made.filter(({ ask }) => ask.shard === shard && ask.lane === 'normal')
  expect(of(2).length).toBeGreaterThan(100)
  expect(of(3).length).toBeGreaterThan(100)
  expect(of(4).length).toBeGreaterThan(3)
  expect(of(4).length).toBeLessThan(9)
  expect(of(5)).toEqual([])
})

test('a queue that fails is left alone for two seconds, and holds nobody up', () => {
  const polling = open(2, 0)
  const [high] = polling.next(0, 1, [0])
  polling.answered(high!, 'failed', 10)
  expect(told(polling.next(10, 1, [0]))).toEqual(['normal 0 wait'])
  expect(polling.next(2_009, 1, [0])).toEqual([])
  expect(told(polling.next(2_010, 1, [0]))).toEqual(['high 0 now'])
})
