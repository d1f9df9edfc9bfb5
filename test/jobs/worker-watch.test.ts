import { describe, expect, test } from 'vitest'
import type { ImageJob } from '../../src/jobs/job.ts'
import type { BuildRecord } from '../../src/jobs/records.ts'
import type { WorkerEvent } from '../../src/jobs/worker-events.ts'
import { openMetrics } from '../../src/jobs/worker-metrics.ts'
import { WorkerWatch } from '../../src/jobs/worker-watch.ts'
import { newBuildId } from '../../src/names.ts'
import { parseExposition } from '../support/exposition.ts'

const job = (image = 'web'): ImageJob => ({
  ...{ version: 1, kind: 'image', build: newBuildId(), project: 'shop', repository: '/repo', config: 'bake.yaml' },
  ...{ commit: 'a'.repeat(40), image, key: 'b'.repeat(64), pins: [], priority: 'normal', rebuild: false },
})
const record = (of: ImageJob, more: Partial<BuildRecord>): BuildRecord => {
  const { kind: _, pins: __, ...same } = of
  return { ...same, status: 'queued', askedAt: Date.now(), ...more }
}
const digest = `sha256:${'c'.repeat(64)}`

/** What a worker is told while it builds `of`. */
const build = (watch: WorkerWatch, of: ImageJob, end: Partial<BuildRecord>) =>
  watch.job(of, 1, async () => {
    watch.record(record(of, { status: 'running', claim: 0, startedAt: Date.now() }))
    watch.record(record(of, { startedAt: Date.now() - 4_200, endedAt: Date.now(), ...end }))
    return { do: 'remove' }
  })

describe('what a worker does', () => {
  test('a build runs from its claim to its end and is counted', async () => {
    const events: WorkerEvent[] = []
    const watch = new WorkerWatch([(event) => events.push(event)])
    const of = job()
    await watch.job(of, 2, async () => {
      expect(watch.running).toEqual([])
      watch.record(record(of, { status: 'running', claim: 3 }), 'dead.1')
      expect(watch.running).toMatchObject([{ build: of.build, image: 'web' }])
      watch.record(record(of, { status: 'built', startedAt: 1_000, endedAt: 5_200, digest, warmth: 'cold' }))
      expect(watch.running).toEqual([])
      return { do: 'remove' }
    })
    expect(watch.counts).toEqual({ built: 1, tagged: 0, failed: 0 })
    expect(events).toMatchObject([
      { type: 'received', build: of.build, image: 'web', receives: 2 },
      { type: 'claimed', build: of.build, claim: 3, takenFrom: 'dead.1' },
      { type: 'ended', build: of.build, status: 'built', seconds: 4.2, digest, warmth: 'cold' },
    ])
  })

  test('a job handed back is no longer running; one handed back to be told of again has ended all the same', async () => {
    const events: string[] = []
    const watch = new WorkerWatch([(event) => events.push(event.type)])
    const of = job()
    await watch.job(of, 1, async () => {
      watch.record(record(of, { status: 'running', claim: 0 }))
      watch.record(record(of, { status: 'queued' }))
      return { do: 'release', inSeconds: 0 }
    })
    expect(events.splice(0)).toEqual(['received', 'claimed', 'handed-back'])
    await watch.job(of, 1, async () => {
      watch.record(record(of, { status: 'built', digest }))
      return { do: 'release', inSeconds: 5 }
    })
    expect(events).toEqual(['received', 'ended'])
    expect(watch.running).toEqual([])
  })

  test('a handler that throws leaves nothing running', async () => {
    const watch = new WorkerWatch()
    const of = job()
    const thrown = watch.job(of, 1, async () => {
      watch.record(record(of, { status: 'running', claim: 0 }))
      throw new Error('boom')
    })
    await expect(thrown).rejects.toThrow('boom')
    expect(watch.running).toEqual([])
  })

  test('states go one way', () => {
    const watch = new WorkerWatch()
    watch.leaves('stopped by SIGTERM', 80_000)
    watch.enter('ready')
    expect(watch.state).toBe('draining')
  })
})

describe('metrics', () => {
  const gauges = {
    ...{ slots: { count: 4, busy: 1 }, heartbeatAge: 1.5, state: 'ready' },
    disk: { freeBytes: 41e9, cacheBytes: 12e9 },
    depths: [{ lane: 'high' as const, shard: 3, visible: 7, inFlight: 0, delayed: 0 }],
  }

  test('are Prometheus’ text format, with a value for each thing that happened', async () => {
    const metrics = await openMetrics(async () => gauges)
    const watch = new WorkerWatch([metrics.tell])
    await build(watch, job(), { status: 'built', digest, warmth: 'registry' })
    await build(watch, job(), { status: 'tagged', digest })
    await build(watch, job('odd"\\name'), { status: 'failed' })
    watch.tell({ type: 'lease-lost', owner: 'a.1', text: 'paused' })
    watch.tell({ type: 'queue-error', text: 'gone' })
    const { type, body } = await metrics.text()
    expect(type).toMatch(/^text\/plain; version=0\.0\.4/)
    const { samples, types } = parseExposition(body)
    const value = (name: string, labels: Record<string, string> = {}) =>
      samples.find((sample) => sample.name === name && Object.entries(labels).every(([key, each]) => sample.labels[key] === each))
        ?.value
    expect(value('bake_builds_total', { image: 'web', status: 'built' })).toBe(1)
    expect(value('bake_builds_total', { image: 'web', status: 'tagged' })).toBe(1)
    expect(value('bake_builds_total', { image: 'odd"\\name', status: 'failed' })).toBe(1)
    // 4.2 s: over the bucket of 2 s, in that of 5 s.
    const seconds = { image: 'web', warmth: 'registry' }
    expect(value('bake_build_seconds_bucket', { ...seconds, le: '2' })).toBe(0)
    expect(value('bake_build_seconds_bucket', { ...seconds, le: '5' })).toBe(1)
    expect(value('bake_build_seconds_count', seconds)).toBe(1)
    expect(value('bake_claim_wait_seconds_count')).toBe(3)
    expect(value('bake_worker_leases_lost_total')).toBe(1)
    expect(value('bake_queue_receive_errors_total')).toBe(1)
    expect(value('bake_worker_slots')).toBe(4)
    expect(value('bake_worker_slots_busy')).toBe(1)
    expect(value('bake_worker_state', { state: 'ready' })).toBe(1)
    expect(value('bake_worker_heartbeat_age_seconds')).toBe(1.5)
    expect(value('bake_disk_free_bytes')).toBe(41e9)
    expect(value('bake_cache_bytes')).toBe(12e9)
    expect(value('bake_queue_visible', { lane: 'high', shard: '3' })).toBe(7)
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(1e6)
    expect(value('process_cpu_seconds_total')).toBeGreaterThan(0)
    expect(types.get('bake_build_seconds')).toBe('histogram')
  })

  test('what isn’t known is left out rather than 0; a state that was left is gone', async () => {
    let now: Parameters<typeof openMetrics>[0] extends () => Promise<infer G> ? G : never = gauges
    const metrics = await openMetrics(async () => now)
    await metrics.text()
    now = { slots: { count: 4, busy: 0 }, heartbeatAge: 0, state: 'draining' }
    const { samples } = parseExposition((await metrics.text()).body)
    expect(samples.filter(({ name }) => name === 'bake_worker_state')).toEqual([
      { name: 'bake_worker_state', labels: { state: 'draining' }, value: 1 },
    ])
    expect(samples.filter(({ name }) => name === 'bake_queue_visible')).toEqual([])
    const unknown = await openMetrics(async () => now)
    const { samples: few } = parseExposition((await unknown.text()).body)
    expect(few.filter(({ name }) => name === 'bake_disk_free_bytes' || name === 'bake_cache_bytes')).toEqual([])
  })
})
