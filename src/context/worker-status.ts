import { BakeError, messageOf } from '../errors.ts'
import type { Engine } from '../io/engine.ts'
import { type StatusAnswer, type StatusServer, serveStatus } from '../io/http-status.ts'
import type { Depth, Queue } from '../io/queue.ts'
import type { WorkerDocument } from '../jobs/records.ts'
import type { Slots } from '../jobs/slots.ts'
import { openMetrics } from '../jobs/worker-metrics.ts'
import type { WorkerWatch } from '../jobs/worker-watch.ts'
import type { Leases } from './leases.ts'
import type { Settings } from './settings.ts'

interface ServeOptions {
  name: string
  slots: Pick<Slots, 'count' | 'busy'>
  queue: Queue
  engine: Engine
  leases: Leases
  settings: Settings
  watch: WorkerWatch
  disk: () => Promise<WorkerDocument['disk']>
  onProblem: (text: string) => void
}

/** An engine that answered so lately isn't asked again. */
const ENGINE_GOOD_MS = 15_000
/** One that hangs is no healthy one. */
const ENGINE_PATIENCE_MS = 5_000
/** SQS is asked for its counts this seldom, however often every worker is scraped. */
const DEPTHS_MS = 60_000

/** Serves /healthz and /metrics. A draining worker is healthy: whoever ends what is unhealthy would end the builds that it finishes. */
export async function serveWorker(options: ServeOptions, listen: string): Promise<StatusServer> {
  const { slots, leases, watch, queue } = options
  let depths: Depth[] | undefined
  let askedMs = Number.NEGATIVE_INFINITY
  const metrics = await openMetrics(async () => {
    if (performance.now() - askedMs > DEPTHS_MS) {
      askedMs = performance.now()
      // Without counts rather than with old ones.
      depths = await queue.depths().catch(() => undefined)
    }
    const disk = await options.disk()
    return { slots, heartbeatAge: leases.ageMs / 1000, state: watch.state, depths, ...(disk && { disk }) }
  })
  watch.listen(metrics.tell)
  const engine = new EngineHealth(options.engine)
  const server = await serveStatus(listen, {
    '/healthz': () => health(options, engine),
    '/metrics': async () => ({ status: 200, ...(await metrics.text()) }),
  })
  watch.tell({ type: 'note', text: `/healthz and /metrics at ${server.url}` })
  return server
}

async function health({ name, leases, settings, watch, slots }: ServeOptions, engine: EngineHealth): Promise<StatusAnswer> {
  const { ageMs } = leases
  const beats = ageMs < settings.leaseMs
  const trouble = await engine.trouble()
  const reasons = [
    ...(beats ? [] : [{ code: 'no_heartbeat', message: `no heartbeat reached the ledger for ${Math.round(ageMs / 1000)} s` }]),
    ...(trouble === undefined ? [] : [trouble]),
  ]
  const body = {
    ...{ status: reasons.length === 0 ? 'ok' : 'unhealthy', worker: name, state: watch.state },
    ...{ slots: slots.count, busy: slots.busy, heartbeatAgeSeconds: Math.round(ageMs / 100) / 10, reasons },
  }
  return { status: reasons.length === 0 ? 200 : 503, type: 'application/json', body: `${JSON.stringify(body)}\n` }
}

/** Whether the engine answers, asked only when somebody wants to know. */
class EngineHealth {
  readonly #engine: Pick<Engine, 'ping'>
  #goodMs = Number.NEGATIVE_INFINITY
  #asking: Promise<void> | undefined

  constructor(engine: Pick<Engine, 'ping'>) {
    this.#engine = engine
  }

  async trouble(): Promise<{ code: string; message: string } | undefined> {
    if (performance.now() - this.#goodMs < ENGINE_GOOD_MS) return undefined
    this.#asking ??= this.#engine.ping().finally(() => {
      this.#asking = undefined
    })
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => late.reject(new Error(`the Docker engine did not answer within ${ENGINE_PATIENCE_MS / 1000} s`)),
      ENGINE_PATIENCE_MS,
    )
    try {
      await Promise.race([this.#asking, late.promise])
      this.#goodMs = performance.now()
      return undefined
    } catch (error) {
      return { code: error instanceof BakeError ? error.code : 'engine_hangs', message: messageOf(error) }
    } finally {
      clearTimeout(timer)
      late.promise.catch(() => {})
    }
  }
}
