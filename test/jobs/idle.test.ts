import { expect, test } from 'vitest'
import { type IdleOptions, whileIdle } from '../../src/jobs/idle.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { waitFor } from '../../src/wait.ts'

const until = (what: string, probe: () => boolean) =>
  waitFor(() => probe() || undefined, { what, deadlineMs: 2_000, intervalMs: 5 })

function idle(options: Partial<IdleOptions>) {
  const end = new AbortController()
  const problems: string[] = []
  const all = { slots: [new Slots(2)], everyMs: 5, work: async () => {}, onProblem: (text: string) => problems.push(text) }
  const ended = whileIdle({ ...all, ...options }, end.signal)
  const stop = async () => {
    end.abort()
    await ended
  }
  return { problems, [Symbol.asyncDispose]: stop }
}
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

test('a job that begins in any slot stops the work, which goes on when all are free', async () => {
  const slots = [new Slots(2), new Slots(1)]
  let [began, ended] = [0, 0]
  await using _idle = idle({
    slots,
    work: async (signal) => {
      began++
      await untilAborted(signal)
      ended++
    },
  })
  await until('work', () => began === 1)
  const job = slots[1]!.tryTake()
  await until('its end', () => ended === 1)
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(began).toBe(1)
  job!.release()
  await until('more work', () => began === 2)
})

test('the end of the worker ends the work', async () => {
  let ended = false
  let began = false
  const one = idle({
    work: async (signal) => {
      began = true
      await untilAborted(signal)
      ended = true
    },
  })
  await until('work', () => began)
  await one[Symbol.asyncDispose]()
  expect(ended).toBe(true)
})

test('what goes wrong again and again is told once, until it goes well', async () => {
  let times = 0
  await using one = idle({
    work: async () => {
      times++
      if (times !== 4) throw new Error('no')
    },
  })
  await until('looks', () => times > 6)
  expect(one.problems).toEqual(['no', 'no'])
})
