import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { layout } from '../../src/cli/live-layout.ts'
import { MachineStory } from '../../src/cli/machine-lines.ts'
import { prunedLines } from '../../src/cli/pruned-lines.ts'
import { openRenderer, type RenderOptions } from '../../src/cli/render.ts'
import { newStory } from '../../src/cli/story.ts'
import { palette } from '../../src/cli/style.ts'
import type { CliEvent, MachineEvent } from '../../src/events.ts'

const T0 = 1_700_000_000_000
const phase = (name: string, state: 'started' | 'done' | 'failed', at: number, seconds?: number): MachineEvent => ({
  ...{ type: 'phase', phase: name, state, t: T0 + at * 1000 },
  ...(seconds !== undefined && { seconds }),
})
const line = (name: string, text: string, at: number): MachineEvent => ({ type: 'line', phase: name, text, t: T0 + at * 1000 })
const STORY: MachineEvent[] = [
  phase('images', 'started', 0),
  line('images', 'pulling \x1b[31mshop/web', 1),
  phase('images', 'done', 12, 12.3),
  { type: 'note', level: 'warning', text: 'KVM boots no kernel here', t: T0 },
  phase('proof', 'started', 13),
  line('proof', 'none: systemd[1]: Started', 14),
]
const events: CliEvent[] = [
  ...STORY.map((event): CliEvent => ({ type: 'machine', event })),
  { type: 'machine', event: phase('proof', 'done', 75, 62) },
  {
    type: 'machine-done',
    build: 'ybr15gj57-3fgtss',
    outcome: { status: 'baked', reference: '/srv/disk-0.qcow2', seconds: 75, sizeBytes: 1.2e9 },
  },
]

async function render(told: CliEvent[], options: Partial<RenderOptions>): Promise<string> {
  const stream = new PassThrough()
  const renderer = await openRenderer({ json: false, quiet: false, progress: 'plain', ...options, stream: stream as never })
  for (const event of told) renderer.emit(event)
  renderer.close()
  stream.end()
  return text(stream)
}

test('in plain lines phases show with their seconds', async () => {
  expect(await render(events, {})).toBe(`machine  images
machine  images | pulling shop/web
machine  images … 12.3 s
machine  warning: KVM boots no kernel here
machine  proof
machine  proof | none: systemd[1]: Started
machine  proof … 1 min 02 s
machine  /srv/disk-0.qcow2  baked in 1 min 15 s · 1.2 GB
`)
})

test('--quiet leaves notes and the end', async () => {
  expect(await render(events, { quiet: true })).toBe(
    'machine  warning: KVM boots no kernel here\nmachine  /srv/disk-0.qcow2  baked in 1 min 15 s · 1.2 GB\n',
  )
})

test.each([
  ['found', { status: 'found', reference: 'ami-1', seconds: 0.2 }, 'machine  ami-1  already baked\n'],
  ['proven', { status: 'proven', reference: 'ami-1', seconds: 62 }, 'machine  ami-1  proven in 1 min 02 s\n'],
  [
    'failed',
    { status: 'failed', seconds: 3, error: { code: 'bake_failed', message: 'images: no space left\nlast lines', exit: 3 } },
    'machine  failed after 3.0 s: images: no space left\n',
  ],
] as const)('the line that stays of one that was %s', async (_, outcome, wanted) => {
  expect(await render([{ type: 'machine-done', outcome }], {})).toBe(wanted)
})

test('in JSON each event is one line, as it is', async () => {
  const lines = (await render(events, { json: true })).trimEnd().split('\n')
  expect(lines.map((each) => JSON.parse(each))).toEqual(events)
})

test('in the live view phases are steps of the machine, with the last lines of the one that runs', () => {
  const story = newStory('machine')
  const machine = new MachineStory()
  for (const event of STORY) machine.tell(story, event, event.t)
  const view = { columns: 60, rows: 24, now: T0 + 20_000, tick: 0, paint: palette(false) }
  expect(layout([story], view)).toEqual([
    '⠋ machine  proof  20.0 s',
    '    12.3 s  images',
    '  ⠋  7.0 s  proof',
    `${' '.repeat(12)}none: systemd[1]: Started`,
  ])
})

test('what prune did, and what it would do', () => {
  const leftover = { kind: 'disk', id: 'machines/3f/disk-0.qcow2', why: 'no published record names it', sizeBytes: 1.2e9 }
  const pruned = [
    { ...leftover, did: 'marked' },
    { ...leftover, did: 'deleted' },
  ] as const
  expect(prunedLines(pruned, false)).toEqual([
    'marked disk machines/3f/disk-0.qcow2 (1.2 GB): no published record names it',
    'deleted disk machines/3f/disk-0.qcow2 (1.2 GB): no published record names it',
  ])
  expect(prunedLines(pruned, true)[1]).toMatch(/^would delete disk/)
})
