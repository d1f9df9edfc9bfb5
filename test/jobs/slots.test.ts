import { expect, test } from 'vitest'
import { Slots } from '../../src/jobs/slots.ts'

const never = new AbortController().signal

test('while slots are held nobody gets one, who has one keeps it, and who waits gets one after the last hold', async () => {
  const slots = new Slots(2)
  const taken = slots.tryTake()!
  const [first, second] = [slots.hold(), slots.hold()]
  expect([slots.free, slots.busy, slots.tryTake()]).toEqual([0, 1, undefined])
  const waiting = slots.take(never)
  taken.release()
  expect([slots.free, slots.busy]).toEqual([0, 0])
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect(slots.free).toBe(0)
  second[Symbol.dispose]()
  expect((await waiting).index).toBe(taken.index)
  expect(slots.free).toBe(1)
})

test('whoever watches hears of the next slot that is taken', async () => {
  const slots = new Slots(1)
  let heard = false
  const watching = slots.whenTaken(never).then(() => (heard = true))
  await Promise.resolve()
  expect(heard).toBe(false)
  slots.tryTake()
  await watching
  const stop = new AbortController()
  const again = slots.whenTaken(stop.signal)
  stop.abort()
  await again
})
