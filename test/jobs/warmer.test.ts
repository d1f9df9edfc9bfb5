import { expect, test } from 'vitest'
import type { LatestDocument } from '../../src/jobs/records.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { Warmer, type WarmerOptions } from '../../src/jobs/warmer.ts'
import { waitFor } from '../../src/wait.ts'

const never = new AbortController().signal
const DAY_MS = 24 * 3600 * 1000

const published = (image: string, build: string, at = Date.now()) =>
  ({ version: 1, build, at, digest: `sha256:${build}`, job: { image } }) as LatestDocument

interface Told {
  warmed: string[]
  problems: string[]
}

function warmer(options: Partial<WarmerOptions> & { slots?: Slots }): Warmer & { told: Told } {
  const told: Told = { warmed: [], problems: [] }
  const made = new Warmer({
    slots: new Slots(2),
    latest: async () => [],
    isWarm: async ({ job }) => told.warmed.includes(job.image),
    warm: async () => {},
    prefers: () => true,
    onWarmed: (image) => told.warmed.push(image),
    onProblem: (text) => told.problems.push(text),
    ...options,
  })
  return Object.assign(made, { told })
}

const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

test('before the first job: the images of the worker’s own shards first, newest first, at most two at a time; what is warm or old is left out', async () => {
  const begun: string[] = []
  let running = 0
  let most = 0
  const one = warmer({
    latest: async () => [
      published('other', '1'),
      published('own-new', '2'),
      published('warm', '3'),
      published('own-old', '4'),
      published('ancient', '5', Date.now() - 30 * DAY_MS),
    ],
    isWarm: async ({ job }) => job.image === 'warm',
    prefers: (image) => image.startsWith('own'),
    warm: async ({ job }) => {
      begun.push(job.image)
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
    },
  })
  await one.before(60_000, never)
  expect(begun).toEqual(['own-new', 'own-old', 'other'])
  expect(most).toBe(2)
  expect(one.told).toEqual({ warmed: expect.arrayContaining(['own-new', 'own-old', 'other']), problems: [] })
})

test('the limit ends it: the worker takes jobs, and says what is left', async () => {
  const one = warmer({
    latest: async () => ['a', 'b', 'c'].map((image) => published(image, image)),
    warm: (_, _place, signal) => untilAborted(signal),
  })
  await one.before(50, never)
  expect(one.told).toEqual({ warmed: [], problems: ['3 images are not warm after 0.05 s: the rest when idle'] })
})

test('what can’t be warmed is told once, and the next publication of it is tried again', async () => {
  const documents = [published('web', '1')]
  let tries = 0
  const one = warmer({
    latest: async () => documents,
    warm: async () => {
      tries++
      throw new Error('no')
    },
  })
  await one.before(60_000, never)
  await one.before(60_000, never)
  expect(tries).toBe(1)
  expect(one.told.problems).toEqual(["web isn't warmed: no"])
  documents[0] = published('web', '2')
  await one.before(60_000, never)
  expect(tries).toBe(2)
})

test('an idle worker follows; a job that begins ends it at once and finds every slot free; a busy worker doesn’t look', async () => {
  const slots = new Slots(1)
  let looks = 0
  let place: number | undefined
  let ended: string | undefined
  const one = warmer({
    slots,
    latest: async () => {
      looks++
      return [published('web', String(looks))]
    },
    warm: async (_, at, signal) => {
      place = at
      await untilAborted(signal).catch(() => (ended = 'at once'))
      signal.throwIfAborted()
    },
  })
  const stop = new AbortController()
  const following = one.follow(5, stop.signal)
  await waitFor(() => place, { what: 'warming', deadlineMs: 5_000, intervalMs: 2 })
  expect(place).toBe(slots.count)
  const slot = slots.tryTake()
  expect(slot?.index).toBe(0)
  await waitFor(() => ended, { what: 'the end of warming', deadlineMs: 5_000, intervalMs: 1 })
  const seen = looks
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(looks).toBe(seen)
  slot?.release()
  await waitFor(() => (looks > seen ? true : undefined), { what: 'another look', deadlineMs: 5_000, intervalMs: 2 })
  stop.abort()
  await following
  expect(one.told).toEqual({ warmed: [], problems: [] })
})
