import { listLatest } from '../image/latest.ts'
import { warmImage } from '../image/warm.ts'
import type { ImageWorld } from '../image/world.ts'
import { diskOf } from '../io/disk.ts'
import { DockerEngine } from '../io/docker.ts'
import { shardOf } from '../jobs/affinity.ts'
import { Room } from '../jobs/room.ts'
import type { Slots } from '../jobs/slots.ts'
import { Warmer } from '../jobs/warmer.ts'
import type { WarmthBook } from '../jobs/warmth.ts'
import type { WorkerWatch } from '../jobs/worker-watch.ts'
import type { Project } from './project.ts'
import type { Settings } from './settings.ts'
import type { WorkerOptions } from './worker.ts'

interface CachesOptions extends Pick<WorkerOptions, 'project' | 'repositories' | 'drain' | 'onProblem'> {
  slots: Slots
  world: ImageWorld
  settings: Settings
  watch: WorkerWatch
  /** The shards that this worker asks first, now. */
  shards: () => readonly number[]
}

/** Keeps room on the disks of this worker's engine and state directory (worker.disk of bake.yaml). */
export function openRoom(options: { project: Project; slots: Slots; warmth: WarmthBook; watch: WorkerWatch }): Room {
  const { project, slots, warmth, watch } = options
  return new Room({
    slots,
    engine: new DockerEngine(),
    disk: diskOf,
    stateDir: project.stateDir,
    limits: project.config.worker.disk ?? {},
    fleet: project.aws !== undefined,
    onLost: (engine, lostUseMs) => warmth.forget(engine, lostUseMs),
    onNote: (text) => watch.tell({ type: 'note', text }),
    onProblem: (text) => watch.tell({ type: 'problem', text }),
  })
}

/** A fleet's machine starts without caches; on one machine the engine is the one that everything was built with. */
const FLEET_WARM_MS = 120_000
/** A list call and a read per image each: at 20 images about 1,300 requests an hour and idle worker, half a cent. */
const FLEET_FOLLOW_MS = 60_000

/**
 * Warms a worker before its first job, within BAKE_WARM_SECONDS, and from then on whenever it is idle. Settles when jobs can be taken; what it
 * gives ends the following.
 */
export async function warmCaches(options: CachesOptions): Promise<AsyncDisposable> {
  const { project, repositories, slots, world, settings, watch, onProblem } = options
  const { shards = 1 } = project.config.fleet
  const ended = new AbortController()
  const signal = AbortSignal.any([options.drain, ended.signal])
  const warmer = new Warmer({
    slots,
    latest: async () => (await listLatest(project.ledger)).filter(({ job }) => repositories.has(job.repository)),
    isWarm: async ({ digest, job, at }) => {
      const warm = await world.warmth.of((await world.engine.info()).id, job.image)
      return warm !== undefined && (warm.digest === digest || (warm.by === 'built-here' && warm.at > at))
    },
    warm: (document, place, until) => warmImage(document, place, world, until),
    prefers: (image) => shards === 1 || options.shards().includes(shardOf({ project: project.config.project, image }, shards)),
    onWarmed: (image) => watch.warmed(image),
    onProblem,
  })
  const warmMs = settings.warmMs ?? (project.aws ? FLEET_WARM_MS : 0)
  const followMs = settings.followMs ?? (project.aws ? FLEET_FOLLOW_MS : 0)
  if (warmMs > 0) await warmer.before(warmMs, signal)
  const following = followMs > 0 ? warmer.follow(followMs, signal) : undefined
  return {
    async [Symbol.asyncDispose]() {
      ended.abort()
      await following
    },
  }
}
