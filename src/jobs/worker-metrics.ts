import type { Depth } from '../io/queue.ts'
import type { TellWorker } from './worker-events.ts'

/** What is looked at when somebody scrapes. */
export interface Gauges {
  slots: { count: number; busy: number }
  /** Seconds since the last good heartbeat was sent. */
  heartbeatAge: number
  state: string
  disk?: { freeBytes: number; cacheBytes?: number | undefined } | undefined
  /** Counts of the queues, not older than some minutes. */
  depths?: Depth[] | undefined
}

export interface WorkerMetrics {
  /** Every event of the worker goes here. */
  tell: TellWorker
  /** The Prometheus text exposition format, 0.0.4. */
  text(): Promise<{ type: string; body: string }>
}

/** From a tag that only moves to a build of an hour. */
const BUILD_SECONDS = [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600]
/** At low load a claim follows within 0.15 s; behind a backlog it takes as long as that. */
const WAIT_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_200]

/** The metrics of one worker, in a registry of their own. Loads prom-client: only for whoever is listened to. */
export async function openMetrics(look: () => Promise<Gauges>): Promise<WorkerMetrics> {
  const { Counter, Gauge, Histogram, Registry } = await import('prom-client')
  const register = new Registry()
  const registers = [register]

  const builds = new Counter({
    name: 'bake_builds_total',
    help: 'Builds that this worker ended, by how.',
    labelNames: ['image', 'status'],
    registers,
  })
  const seconds = new Histogram({
    name: 'bake_build_seconds',
    help: 'Seconds from claim to published, of builds that were built here.',
    labelNames: ['image', 'warmth'],
    buckets: BUILD_SECONDS,
    registers,
  })
  const waited = new Histogram({
    name: 'bake_claim_wait_seconds',
    help: 'Seconds from asking to a claim.',
    buckets: WAIT_SECONDS,
    registers,
  })
  const count = (name: string, help: string) => new Counter({ name, help, registers })
  const handedBack = count('bake_jobs_handed_back_total', 'Jobs handed back to the queue unfinished.')
  const takeovers = count('bake_claims_taken_over_total', 'Claims taken over from a dead worker.')
  const lost = count('bake_worker_leases_lost_total', 'Leases that this worker lost: no heartbeat reached the ledger in time.')
  const queueErrors = count('bake_queue_receive_errors_total', 'Receives from the queue that failed.')

  const gauge = (name: string, help: string) => new Gauge({ name, help, registers })
  const slots = gauge('bake_worker_slots', 'Builds that this worker takes at a time.')
  const busy = gauge('bake_worker_slots_busy', 'Slots that hold a job.')
  const state = new Gauge({ name: 'bake_worker_state', help: '1 for the state it is in.', labelNames: ['state'], registers })
  const beat = gauge('bake_worker_heartbeat_age_seconds', 'Seconds since the last heartbeat that the ledger took.')
  // By the names that dashboards know. prom-client's own set measures the event loop all the time, and writes what it doesn't know as `Nan`.
  const memory = gauge('process_resident_memory_bytes', 'Resident memory of this process.')
  const cpu = count('process_cpu_seconds_total', 'CPU time that this process used.')
  const started = gauge('process_start_time_seconds', 'When this process started, in seconds since the epoch.')
  started.set(Math.round(Date.now() / 1000 - process.uptime()))
  // A gauge that nobody set would say 0.
  const known = new Map<string, InstanceType<typeof Gauge>>()
  const setKnown = (name: string, help: string, value: number | undefined) => {
    if (value === undefined) return
    const found = known.get(name) ?? gauge(name, help)
    known.set(name, found)
    found.set(value)
  }
  const visible = new Gauge({
    name: 'bake_queue_visible',
    help: 'Jobs that wait in each queue, as SQS counts: approximately, up to a minute old, and the same from every worker.',
    labelNames: ['lane', 'shard'],
    registers,
  })

  const tell: TellWorker = (event) => {
    if (event.type === 'ended') {
      builds.inc({ image: event.image, status: event.status })
      if (event.status === 'built') seconds.observe({ image: event.image, warmth: event.warmth ?? 'unknown' }, event.seconds)
    } else if (event.type === 'claimed') {
      waited.observe(event.waited)
      if (event.takenFrom !== undefined) takeovers.inc()
    } else if (event.type === 'handed-back') handedBack.inc()
    else if (event.type === 'lease-lost') lost.inc()
    else if (event.type === 'queue-error') queueErrors.inc()
  }

  return {
    tell,
    async text() {
      const now = await look()
      slots.set(now.slots.count)
      busy.set(now.slots.busy)
      beat.set(now.heartbeatAge)
      memory.set(process.memoryUsage.rss())
      const { user, system } = process.cpuUsage()
      cpu.reset()
      cpu.inc((user + system) / 1e6)
      state.reset()
      state.set({ state: now.state }, 1)
      setKnown('bake_disk_free_bytes', "Free bytes on the engine's disk.", now.disk?.freeBytes)
      setKnown('bake_cache_bytes', "Bytes in the engine's build cache, when last measured.", now.disk?.cacheBytes)
      visible.reset()
      for (const depth of now.depths ?? []) visible.set({ lane: depth.lane, shard: String(depth.shard) }, depth.visible)
      return { type: register.contentType, body: await register.metrics() }
    },
  }
}
