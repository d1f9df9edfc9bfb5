import { describe, expect, test } from 'vitest'
import type { BuildEvent } from '../../src/events.ts'
import { BuildEvents } from '../../src/io/buildx-events.ts'
import type { SolveStatus, Vertex } from '../../src/io/buildx-status.ts'

const at = (seconds: number) => `2026-01-01T00:00:${String(seconds).padStart(2, '0')}.000000001Z`
const T0 = Date.parse(at(0))
const vertex = (digest: string, name: string, times: Partial<Vertex> = {}): SolveStatus => ({
  vertexes: [{ digest, name, ...times }],
})
const log = (digest: string, data: string | Buffer, stream = 1): SolveStatus => ({
  logs: [{ vertex: digest, stream, data: Buffer.from(data).toString('base64'), timestamp: at(1) }],
})

function run(...statuses: SolveStatus[]) {
  const events = new BuildEvents()
  const told = [...statuses.flatMap((status) => [...events.take(status)]), ...events.end()]
  return { events, told }
}
const RUN = vertex('a', '[1/1] RUN x', { started: at(0) })
const linesOf = (told: BuildEvent[]) => told.flatMap((event) => (event.type === 'line' ? [event.text] : []))
const statesOf = (told: BuildEvent[]) => told.flatMap((event) => (event.type === 'step' ? [`${event.step} ${event.state}`] : []))

test('a line whose second half comes after the end of its step is told once, whole', () => {
  const { told } = run(
    RUN,
    log('a', 'first\nsec'),
    vertex('a', '[1/1] RUN x', { started: at(0), completed: at(2) }),
    log('a', 'ond\nlast'),
  )
  expect(linesOf(told)).toEqual(['first', 'second', 'last'])
})

describe('steps', () => {
  test('one event per change of state, numbered by first sight, with seconds', () => {
    const { told, events } = run(
      {
        vertexes: [
          { digest: 'b', name: '[2/2] COPY . .' },
          { digest: 'a', name: '[1/2] RUN x' },
        ],
      },
      vertex('a', '[1/2] RUN x', { started: at(0) }),
      vertex('a', '[1/2] RUN x', { started: at(0) }),
      vertex('a', '[1/2] RUN x', { started: at(0), completed: at(3) }),
      vertex('a', '[1/2] RUN x', { started: at(0), completed: at(3) }),
      vertex('b', '[2/2] COPY . .', { started: at(3), completed: at(3), cached: true }),
    )
    expect(told).toEqual([
      { type: 'step', step: 0, name: '[1/2] RUN x', state: 'started', t: T0 },
      { type: 'step', step: 0, name: '[1/2] RUN x', state: 'done', t: T0 + 3000, seconds: 3 },
      { type: 'step', step: 1, name: '[2/2] COPY . .', state: 'started', t: T0 + 3000 },
      { type: 'step', step: 1, name: '[2/2] COPY . .', state: 'cached', t: T0 + 3000 },
    ])
    expect(events.steps).toEqual({ total: 2, cached: 1 })
  })

  test('a base image that is resolved, then found cached, ends as cached', () => {
    const name = '[1/1] FROM docker.io/library/x@sha256:1'
    const { told, events } = run(
      vertex('a', name, { started: at(0) }),
      vertex('a', name, { started: at(0), completed: at(1) }),
      vertex('a', name, { started: at(2), cached: true }),
      vertex('a', name, { started: at(2), completed: at(3), cached: true }),
    )
    expect(statesOf(told)).toEqual(['0 started', '0 cached'])
    expect(events.steps).toEqual({ total: 1, cached: 1 })
  })

  test('a base image that is only looked up counts as cached, one that is pulled does not', () => {
    const from = (digest: string, times: Partial<Vertex>) => vertex(digest, `[${digest} 1/1] FROM docker.io/library/x`, times)
    const { told, events } = run(
      from('a', { started: at(0) }),
      from('a', { started: at(0), completed: at(1) }),
      from('b', { started: at(0) }),
      { statuses: [{ id: 'sha256:123', vertex: 'b' }] },
      from('b', { started: at(0), completed: at(1) }),
    )
    expect(statesOf(told)).toEqual(['0 started', '0 cached', '1 started', '1 done'])
    expect(events.steps).toEqual({ total: 2, cached: 1 })
  })

  test.each([
    '[internal] load build context',
    '[auth] library/x:pull token for registry-1.docker.io',
    '[context base] load metadata for docker.io/library/x',
    'exporting to image',
    'exporting cache to registry',
    'importing cache manifest from localhost:5000/c:x',
    'pushing localhost:5000/web:1 with docker',
    'resolve image config for docker-image://docker.io/docker/dockerfile:1',
    'docker-image://docker.io/docker/dockerfile:1@sha256:1',
  ])('%s is internal and not counted', (name) => {
    const { told, events } = run(vertex('a', name, { started: at(0), completed: at(1) }))
    expect(told).toContainEqual(expect.objectContaining({ state: 'done', internal: true }))
    expect(events.steps).toEqual({ total: 0, cached: 0 })
  })

  test.each(['[2/3] RUN x', '[web 1/2] COPY . .', '[linux/arm64 internal 1/2] RUN x', '[internal 1/2] RUN x'])(
    '%s is not',
    (name) => {
      expect(run(vertex('a', name, { started: at(0), completed: at(1) })).events.steps).toEqual({ total: 1, cached: 0 })
    },
  )

  test('a step that a registry’s cache has counts as cached, also when its layers are pulled', () => {
    const name = '[2/2] RUN npm ci'
    const again = { started: at(2) }
    const { events, told } = run(
      vertex('i', 'importing cache manifest from localhost:5000/cache:web', { started: at(0), completed: at(1) }),
      vertex('a', name, { started: at(1), completed: at(1), cached: true }),
      vertex('a', name, again),
      { statuses: [{ vertex: 'a', id: `sha256:${'a'.repeat(64)}`, current: 5, total: 10 }] },
      vertex('a', name, { ...again, completed: at(9) }),
    )
    expect(statesOf(told).slice(-3)).toEqual(['1 cached', '1 started', '1 done'])
    expect(events.steps).toEqual({ total: 1, cached: 1 })
    expect(events.cacheFound).toBe(true)
  })

  test('failed and canceled are told apart; unfinished steps end as canceled', () => {
    const { told, events } = run(
      RUN,
      log('a', 'some output\nlast words'),
      vertex('b', '[x 1/1] RUN y', { started: at(0), completed: at(1), error: 'process "y": context canceled' }),
      vertex('c', '[z 1/1] RUN z', { started: at(0) }),
      vertex('a', '[1/1] RUN x', { started: at(0), completed: at(1), error: 'exit code: 7' }),
    )
    expect(statesOf(told)).toEqual(['0 started', '1 started', '1 canceled', '2 started', '0 failed', '2 canceled'])
    expect(events.failed).toEqual({
      name: '[1/1] RUN x',
      internal: false,
      error: 'exit code: 7',
      tail: ['some output', 'last words'],
    })
  })

  test('a cache that is not there yet is no news; one that cannot be read or written is a warning and fails nothing', () => {
    const failing = (digest: string, name: string, error: string) =>
      vertex(digest, name, { started: at(0), completed: at(1), error })
    const { told, events } = run(
      failing('a', 'importing cache manifest from h/c:x', 'failed to configure registry cache importer: h/c:x: not found'),
      failing('b', 'importing cache manifest from h/c:y', '401 Unauthorized'),
      failing('c', 'exporting cache to registry', 'error writing layer blob: 405 Method Not Allowed'),
    )
    expect(told.flatMap((event) => (event.type === 'warning' ? [event.text] : []))).toEqual([
      'no cache read from h/c:y: 401 Unauthorized',
      'build cache not written: error writing layer blob: 405 Method Not Allowed',
    ])
    expect(statesOf(told)).toContain('0 done')
    expect(events.failed).toBeUndefined()
  })

  test("BuildKit's own warnings are told", () => {
    const { told } = run(RUN, { warnings: [{ vertex: 'a', short: Buffer.from('MAINTAINER is old').toString('base64') }] })
    expect(told).toContainEqual(expect.objectContaining({ type: 'warning', step: 0, text: 'MAINTAINER is old' }))
  })
})

describe('lines', () => {
  test('packets are joined to lines per stream, wherever they are cut', () => {
    const bytes = Buffer.from('eins zwei\ndrei ü€😀 vier\n\nfünf')
    for (let cut = 0; cut <= bytes.length; cut++) {
      const { told } = run(
        RUN,
        log('a', bytes.subarray(0, cut)),
        log('a', 'other ', 2),
        log('a', bytes.subarray(cut)),
        log('a', 'stream\n', 2),
      )
      const of = (stream: number) => linesOf(told.filter((event) => event.type === 'line' && event.stream === stream))
      expect(of(1), `cut at ${cut}`).toEqual(['eins zwei', 'drei ü€😀 vier', '', 'fünf'])
      expect(of(2)).toEqual(['other stream'])
    }
  })

  test('of a progress bar what it showed last stays, wherever packets are cut', () => {
    const bytes = Buffer.from('10%\r50%\r100%\r\nnext\r\nbar\rend\r')
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(linesOf(run(RUN, log('a', bytes.subarray(0, cut)), log('a', bytes.subarray(cut))).told), `cut at ${cut}`).toEqual([
        '100%',
        'next',
        'end',
      ])
    }
  })

  test('a progress bar of megabytes without a line end is one line', () => {
    const packets = Array.from({ length: 300 }, (_, i) => log('a', `${'#'.repeat(9999)} ${i}\r`))
    expect(linesOf(run(RUN, ...packets).told)).toEqual([`${'#'.repeat(9999)} 299`])
  })

  test.each([
    ['in one packet', (text: string) => [log('a', text)]],
    ['in many packets', (text: string) => (text.match(/.{1,999}/gsu) ?? []).map((part) => log('a', part))],
  ])('a long line %s is told in parts and complete', (_, packets) => {
    const long = 'ü😀x'.repeat(70_000)
    const { told } = run(RUN, ...packets(`before\n${long}\nafter\n`))
    const lines = told.filter((event) => event.type === 'line')
    const parts = lines.slice(1, -1)
    expect(parts.map(({ text }) => text).join('')).toBe(long)
    expect(parts.map(({ more }) => more)).toEqual([...parts.slice(1).map(() => true), undefined])
    expect(Math.max(...parts.map(({ text }) => text.length))).toBeLessThanOrEqual(65536)
    expect(lines.map(({ text }) => text).filter((text) => text.length < 10)).toEqual(['before', 'after'])
  })

  test("the engine's note that it clipped the output becomes an event", () => {
    const { told } = run(RUN, log('a', 'one\ncut he[output clipped, log limit 200KiB/s reached]\ntwo\n'))
    expect(told.slice(1, 5).map((event) => (event.type === 'line' ? event.text : event.type))).toEqual([
      'one',
      'cut he',
      'clipped',
      'two',
    ])
  })
})
