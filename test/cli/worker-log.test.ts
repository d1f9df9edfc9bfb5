import { expect, test } from 'vitest'
import { jsonWorkerLog, plainWorkerLog } from '../../src/cli/worker-log.ts'
import type { WorkerEvent } from '../../src/jobs/worker-events.ts'

const at = { build: 'ybr15gj57-3fgtss', image: 'web' }
const digest = `sha256:${'c'.repeat(64)}`
const EVENTS: WorkerEvent[] = [
  { type: 'named', worker: 'big', slots: 2 },
  { type: 'lease', owner: 'big.1f' },
  { type: 'warmed', image: 'web' },
  { type: 'state', state: 'ready' },
  { type: 'received', priority: 'high', receives: 2, ...at },
  { type: 'waiting', leader: 'ybr15gj58-000000', ...at },
  { type: 'claimed', claim: 4, waited: 0.08, takenFrom: 'old.2e', ...at },
  { type: 'ended', status: 'built', seconds: 4.2, digest, warmth: 'registry', ...at },
  { type: 'ended', status: 'tagged', seconds: 0.2, digest, ...at },
  {
    type: 'ended',
    status: 'failed',
    seconds: 61,
    failure: { kind: 'user', code: 'step_failed', message: 'RUN false\nits log', exit: 3 },
    ...at,
  },
  { type: 'ended', status: 'superseded', seconds: 0, supersededBy: 'ybr15gj11-000000', ...at },
  { type: 'handed-back', inSeconds: 0, ...at },
  { type: 'lease-lost', owner: 'big.1f', text: 'big.1f sent no heartbeat for 20 s' },
  { type: 'queue-error', text: 'no answer' },
  { type: 'problem', text: 'git gc: disk full' },
  { type: 'state', state: 'draining', why: 'spot interruption: EC2 will terminate this instance in 120 s' },
  { type: 'state', state: 'ended' },
]

test('JSON: one object a line with time, level and worker; build and image wherever one is concerned', async () => {
  let text = ''
  const log = jsonWorkerLog(
    (line) => {
      text += line
    },
    () => new Date(0),
  )
  for (const event of EVENTS) log.event(event)
  log.line('info', 'worker drained')
  log.fatal!({ code: 'port_taken', message: 'something listens there', next: 'another port', exit: 4, ids: { listen: ':1' } })
  expect(text.endsWith('\n')).toBe(true)
  const lines = text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toHaveLength(EVENTS.length + 2)
  for (const line of lines)
    expect(line).toMatchObject({ time: '1970-01-01T00:00:00.000Z', worker: 'big', message: expect.stringMatching(/./) })
  for (const [i, event] of EVENTS.entries()) if ('build' in event) expect(lines[i]).toMatchObject(at)
  await expect(text).toMatchFileSnapshot('../golden/worker-log.jsonl')
})

test('text: one line an event, a job’s with its image and build', async () => {
  const lines: string[] = []
  const log = plainWorkerLog((level, text) => void lines.push(`${level === 'info' ? '' : `${level}: `}${text}`))
  for (const event of EVENTS) log.event(event)
  await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot('../golden/worker-log.txt')
})
