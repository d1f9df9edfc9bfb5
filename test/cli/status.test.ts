import { expect, test } from 'vitest'
import { statusLines } from '../../src/cli/status-lines.ts'
import { palette } from '../../src/cli/style.ts'
import { width } from '../../src/cli/width.ts'
import type { FleetStatus, WorkerStatus } from '../../src/jobs/fleet-status.ts'

const NOW = 1_700_000_000_000
const ago = (seconds: number) => NOW - seconds * 1000

const workerOf = (name: string, more: Partial<WorkerStatus> = {}): WorkerStatus => ({
  ...{ name, bake: '0.1.0', platform: 'linux/amd64', state: 'ready', slots: 2, startedAt: ago(3600), at: NOW, shards: [0, 3] },
  ...{ running: [], warm: [], counts: { built: 0, tagged: 0, failed: 0 }, busy: 0, beatAge: 1.2, ...more },
})
const queue = (lane: 'high' | 'normal', shard: number, visible = 0, inFlight = 0, delayed = 0) => ({
  ...{ lane, shard, visible, inFlight, delayed },
})

const FLEET: FleetStatus = {
  ...{ project: 'shop', at: NOW, aws: true, serving: true },
  workers: [
    workerOf('ip-10-0-1-17', {
      busy: 2,
      running: [
        { build: 'ybr15gj57-3fgtss', image: 'web', since: ago(65) },
        { build: 'ybr15gj4a-0000aa', image: 'search-indexer', since: ago(3.1) },
      ],
      warm: [
        { image: 'web', at: ago(5), by: 'built-here' },
        { image: 'search-indexer', at: ago(500), by: 'built-here' },
        ...['api', 'jobs', 'mail', 'docs'].map((image) => ({ image, at: ago(900), by: 'warmed' as const })),
      ],
      disk: { freeBytes: 41_200_000_000, totalBytes: 100_000_000_000 },
      counts: { built: 31, tagged: 112, failed: 2 },
    }),
    workerOf('ip-10-0-2-4', { state: 'warming', shards: [1, 2], disk: { freeBytes: 88e9, totalBytes: 1e11 } }),
    workerOf('ip-10-0-3-99', {
      ...{ state: 'draining', shards: [2, 0], slots: 4, busy: 1 },
      running: [{ build: 'ybr15gj3b-0000bb', image: 'api', since: ago(3725) }],
    }),
    workerOf('ip-10-0-3-100', { state: 'lost', beatAge: 130 }),
  ],
  queues: [
    ...[0, 1, 2, 3].map((shard) => queue('high', shard)),
    { ...queue('normal', 0, 12, 2), oldest: { build: 'ybr15gj99-0000cc', image: 'web', askedAt: ago(252) } },
    queue('normal', 1),
    { ...queue('normal', 2, 1, 1, 3), oldest: { build: 'ybr15gj98-0000dd', image: 'search-indexer', askedAt: ago(4) } },
    queue('normal', 3),
  ],
  dead: 2,
  failures: [
    {
      ...{ build: 'ybr15gj77-0000ee', image: 'web', commit: 'a'.repeat(40), branch: 'main', worker: 'ip-10-0-1-17' },
      ...{ endedAt: ago(125), code: 'step_failed', message: 'RUN npm ci: exit code 1\nnpm error missing: left-pad@^1.0.0' },
    },
    {
      ...{ build: 'ybr15gj70-0000ff', image: 'api', commit: 'b'.repeat(40), worker: 'ip-10-0-3-99' },
      ...{ endedAt: ago(7300), code: 'registry_unreachable', message: 'the registry did not answer' },
    },
  ],
  problems: [],
}

const show = (status: FleetStatus, columns?: number) =>
  `${statusLines(status, { columns, now: NOW, paint: palette(false) }).join('\n')}\n`

test('a fleet, for a pipe: nothing is cut', async () => {
  await expect(show(FLEET)).toMatchFileSnapshot('../golden/status-wide.txt')
})

test('a fleet on 80 columns: columns that tell least are left out', async () => {
  await expect(show(FLEET, 80)).toMatchFileSnapshot('../golden/status-80.txt')
})

test('a fleet on 40 columns', async () => {
  await expect(show(FLEET, 40)).toMatchFileSnapshot('../golden/status-40.txt')
})

test('no line is as wide as the terminal, whatever that is', () => {
  const paint = palette(true)
  for (let columns = 2; columns < 180; columns++)
    for (const line of statusLines(FLEET, { columns, now: NOW, paint })) expect(width(line)).toBeLessThan(columns)
})

test('one machine where nothing runs', async () => {
  const idle: FleetStatus = {
    ...{ project: 'shop', at: NOW, aws: false, serving: false, workers: [], failures: [], problems: [] },
    queues: [queue('high', 0), queue('normal', 0)],
  }
  await expect(show(idle)).toMatchFileSnapshot('../golden/status-idle.txt')
})

test('what can’t be asked is told, and the rest is shown', () => {
  const lines = show({ ...FLEET, problems: ['queue bake does not answer'] })
  expect(lines).toContain('warning: queue bake does not answer')
  expect(lines).toContain('ip-10-0-1-17')
})
