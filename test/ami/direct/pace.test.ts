import { expect, test } from 'vitest'
import { Pace } from '../../../src/ami/direct/pace.ts'

const never = new AbortController().signal

test('refusals that come together slow down once, and those after a while again', () => {
  let now = 0
  const pace = new Pace({ now: () => now })
  for (let each = 0; each < 30; each++) pace.refused()
  expect(pace.perSecond).toBe(500)
  now = 300
  pace.refused()
  expect(pace.perSecond).toBe(250)
})

test('what goes well makes it faster again, up to what an account may', () => {
  const pace = new Pace({ now: () => 0 })
  pace.refused()
  for (let each = 0; each < 10_000; each++) pace.went()
  expect(pace.perSecond).toBe(1_000)
})

test('it never stops', () => {
  let now = 0
  const pace = new Pace({ now: () => now })
  for (let each = 0; each < 100; each++, now += 1_000) pace.refused()
  expect(pace.perSecond).toBe(5)
})

test('turns are given at its rate', async () => {
  const pace = new Pace({ perSecond: 200 })
  const began = performance.now()
  await Promise.all(Array.from({ length: 60 }, () => pace.turn(never)))
  // Ten of them may begin at once.
  expect(performance.now() - began).toBeGreaterThan(230)
})

test('a turn isn’t waited for after the signal', async () => {
  const pace = new Pace({ perSecond: 1 })
  const stop = new AbortController()
  await pace.turn(never)
  const waiting = pace.turn(stop.signal)
  stop.abort(new Error('stopped'))
  await expect(waiting).rejects.toThrow()
  await expect(pace.turn(stop.signal)).rejects.toThrow('stopped')
})
