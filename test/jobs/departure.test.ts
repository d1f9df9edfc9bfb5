import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Departure } from '../../src/jobs/departure.ts'
import { Protection } from '../../src/jobs/protection.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

const setUp = (drainMs?: number) => {
  const [drain, abort] = [new AbortController(), new AbortController()]
  const told: [string, number | undefined][] = []
  const departure = new Departure(
    { drain: drain.signal, abort: abort.signal, drainMs: () => drainMs },
    (why, withinMs) => void told.push([why, withinMs]),
  )
  const state = () => (departure.abort.aborted ? 'hands back' : departure.drain.aborted ? 'drains' : 'works')
  return { drain, abort, departure, told, state }
}

test('a first signal without a limit drains for as long as it takes; a second hands back', async () => {
  const { drain, abort, state } = setUp()
  expect(state()).toBe('works')
  drain.abort(new Error('stopped by SIGINT'))
  expect(state()).toBe('drains')
  await vi.advanceTimersByTimeAsync(24 * 3600_000)
  expect(state()).toBe('drains')
  abort.abort()
  expect(state()).toBe('hands back')
})

test('a first signal with a limit hands back at its end', async () => {
  const { drain, told, state } = setUp(80_000)
  drain.abort(new Error('stopped by SIGTERM'))
  await vi.advanceTimersByTimeAsync(79_000)
  expect(state()).toBe('drains')
  await vi.advanceTimersByTimeAsync(2_000)
  expect(state()).toBe('hands back')
  expect(told).toEqual([['stopped by SIGTERM', 80_000]])
})

test('a notice shortens the time that a signal gave, and no later reason prolongs it', async () => {
  const { drain, departure, told, state } = setUp(3600_000)
  drain.abort(new Error('stopped by SIGTERM'))
  departure.leave('spot interruption', 105_000)
  departure.leave('the group', 48 * 3600_000)
  await vi.advanceTimersByTimeAsync(106_000)
  expect(state()).toBe('hands back')
  expect(departure.why).toBe('stopped by SIGTERM')
  expect(told.map(([why]) => why)).toEqual(['stopped by SIGTERM', 'spot interruption'])
})

test('a notice whose time is over already hands back at once', async () => {
  const { departure, state } = setUp()
  departure.leave('spot interruption', -5_000)
  await vi.advanceTimersByTimeAsync(1)
  expect(state()).toBe('hands back')
})

test('signals that came before it was made count', () => {
  const departure = new Departure({ drain: AbortSignal.abort(), abort: new AbortController().signal, drainMs: () => undefined })
  expect(departure.drain.aborted).toBe(true)
})

const protect = (set: (on: boolean) => Promise<void>) => {
  const told: string[] = []
  return { told, protection: new Protection({ set, onProblem: (text) => told.push(text), idleMs: 60_000 }) }
}

test('protected before the first job, once for jobs that follow each other, and no more when idle for a while', async () => {
  const calls: boolean[] = []
  const { protection } = protect(async (on) => void calls.push(on))
  await protection.hold()
  expect(calls).toEqual([true])
  await protection.hold()
  protection.release()
  protection.release()
  await vi.advanceTimersByTimeAsync(59_000)
  await protection.hold()
  protection.release()
  await vi.advanceTimersByTimeAsync(59_000)
  expect(calls).toEqual([true])
  await vi.advanceTimersByTimeAsync(2_000)
  expect(calls).toEqual([true, false])
})

test('a protection that fails or hangs keeps no job back, and is told of once', async () => {
  const { protection, told } = protect(() => Promise.reject(new Error('AccessDenied')))
  await protection.hold()
  protection.release()
  await protection.hold()
  expect(told).toEqual(["scale-in protection can't be set: AccessDenied"])
  const hung = protect(() => new Promise(() => {}))
  const held = hung.protection.hold()
  await vi.advanceTimersByTimeAsync(5_001)
  await held
})

test('a worker that ends takes its protection away', async () => {
  const calls: boolean[] = []
  const { protection } = protect(async (on) => void calls.push(on))
  await protection.hold()
  protection.release()
  await protection[Symbol.asyncDispose]()
  expect(calls).toEqual([true, false])
})
