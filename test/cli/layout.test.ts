import { expect, test } from 'vitest'
import { layout } from '../../src/cli/live-layout.ts'
import { type ImageStory, newStory, tell } from '../../src/cli/story.ts'
import { palette } from '../../src/cli/style.ts'
import { width } from '../../src/cli/width.ts'
import type { CliEvent } from '../../src/events.ts'
import { story } from './fixture/story.ts'

const T0 = 1_700_000_000_000

/** The stories after `events`, each of which arrives 40 ms after it happened. */
function fold(events: readonly CliEvent[]): ImageStory[] {
  const stories = new Map<string, ImageStory>()
  for (const event of events) {
    if (!('image' in event)) continue
    const known = stories.get(event.image) ?? newStory(event.image, event.build)
    stories.set(event.image, known)
    if (event.type === 'image') tell(known, event.event, event.event.t + 40)
    else known.outcome = event.outcome
  }
  return [...stories.values()]
}

const view = (columns: number, rows: number, now = T0 + 3000) => ({ columns, rows, now, tick: 0, paint: palette(false) })
const frame = (events: readonly CliEvent[], columns: number, rows: number) =>
  `${layout(fold(events), view(columns, rows)).join('\n')}\n`

/** While `npm ci` runs: up to its last log line. */
const running = (n: number) => {
  const events = story(n, T0)
  return events.slice(
    0,
    events.findIndex((event) => event.type === 'image' && event.event.type === 'clipped'),
  )
}

test('three images on a roomy terminal: steps, log lines, the one that is done', async () => {
  await expect(frame(running(3), 100, 40)).toMatchFileSnapshot('../golden/live-3-roomy.txt')
})

test('three images on a low terminal: details go to the first', async () => {
  await expect(frame(running(3), 60, 8)).toMatchFileSnapshot('../golden/live-3-low.txt')
})

test('twenty images in 24 rows: what is done becomes a count, headers stay', async () => {
  await expect(frame(running(20), 80, 24)).toMatchFileSnapshot('../golden/live-20.txt')
})

test('twenty images in 10 rows: the rest is counted', async () => {
  await expect(frame(running(20), 80, 10)).toMatchFileSnapshot('../golden/live-20-low.txt')
})

test('at the end every image has its summary', async () => {
  await expect(frame(story(3, T0), 120, 24)).toMatchFileSnapshot('../golden/live-3-end.txt')
})

test('no frame is ever as tall as the terminal or as wide as its columns', () => {
  const events = story(20, T0)
  const stories = new Map<string, ImageStory>()
  for (const [i, event] of events.entries()) {
    if (!('image' in event)) continue
    for (const done of fold(events.slice(0, i + 1)).slice(0, 20)) stories.set(done.image, done)
    if (i % 17 !== 0 && i !== events.length - 1) continue
    for (const [columns, rows] of [
      [200, 60],
      [80, 24],
      [40, 10],
      [12, 3],
      [2, 2],
    ] as const) {
      const lines = layout([...stories.values()], view(columns, rows))
      expect(lines.length, `${columns}×${rows} after event ${i}`).toBeLessThan(rows)
      expect(Math.max(...lines.map(width)), `${columns}×${rows} after event ${i}`).toBeLessThan(columns)
    }
  }
})

test('seconds tick by our clock although the worker is two hours ahead', () => {
  const events = running(1)
  const stories = new Map<string, ImageStory>()
  const ahead = 7_200_000
  for (const event of events) {
    if (event.type !== 'image') continue
    const known = stories.get(event.image) ?? newStory(event.image)
    stories.set(event.image, known)
    tell(known, { ...event.event, t: event.event.t + ahead }, event.event.t)
  }
  const lines = layout([...stories.values()], view(80, 24, T0 + 5000))
  expect(lines[0]).toContain('building  5.0 s')
})

test('a retry starts the steps anew', () => {
  const known = newStory('web')
  const step = { type: 'step', step: 0, name: 'RUN a', state: 'started', t: T0 } as const
  tell(known, step, T0)
  tell(known, { type: 'retry', code: 'engine_unreachable', message: 'gone', attempt: 1, of: 3, inSeconds: 5, t: T0 }, T0)
  expect(known.steps.size).toBe(0)
  expect(layout([known], view(80, 24))[0]).toContain('retrying  3.0 s  attempt 2 of 3 in 5 s: engine_unreachable')
})

test('a running step keeps its last 40 lines, each cut at 2000 characters, a finished one none', () => {
  const known = newStory('web')
  const step = (state: 'started' | 'done') => tell(known, { type: 'step', step: 0, name: 'RUN a', state, t: T0 }, T0)
  step('started')
  for (let i = 0; i < 1000; i++) tell(known, { type: 'line', step: 0, stream: 1, text: `${i}${'x'.repeat(5000)}`, t: T0 }, T0)
  const tail = known.steps.get(0)!.tail
  expect([tail.length, tail[0]!.slice(0, 4), tail[39]!.length]).toEqual([40, '960x', 2000])
  step('done')
  expect(known.steps.get(0)!.tail).toEqual([])
})
