import { messageOf } from '../errors.ts'
import { diskOf } from '../io/disk.ts'
import type { Engine } from '../io/engine.ts'
import type { Queue } from '../io/queue.ts'
import { preferredShards } from '../jobs/affinity.ts'
import type { Departure } from '../jobs/departure.ts'
import type { Tools, Verdict } from '../jobs/loop.ts'
import { Member, Members } from '../jobs/members.ts'
import type { WorkerDocument } from '../jobs/records.ts'
import type { Room } from '../jobs/room.ts'
import type { Slots } from '../jobs/slots.ts'
import type { WarmthBook } from '../jobs/warmth.ts'
import type { JobSubject, WorkerWatch } from '../jobs/worker-watch.ts'
import { packageVersion } from '../package-root.ts'
import { machinePlatform } from '../platform-name.ts'
import { type Instance, noInstance, openInstance } from './instance.ts'
import type { Leases } from './leases.ts'
import type { Project } from './project.ts'
import type { Settings } from './settings.ts'
import { serveWorker } from './worker-status.ts'

export interface LifeOptions {
  project: Project
  name: string
  slots: Pick<Slots, 'count' | 'busy'>
  bakes?: boolean | undefined
  queue: Queue
  engine: Engine
  warmth: WarmthBook
  room: Room
  leases: Leases
  settings: Settings
  departure: Departure
  watch: WorkerWatch
  /** `HOST:PORT` for /healthz and /metrics. */
  listen?: string | undefined
  onProblem: (text: string) => void
}

/** A worker as a member of its fleet: what others see of it, and what it hears from them and from the machine under it. */
export interface WorkerLife extends AsyncDisposable {
  /** The shards to ask first, most preferred first, by who lives now. */
  readonly shards: number[]
  /** Whether a given-up receive may swallow what this worker has just handed back: then the queue is waited for before the end. */
  readonly unsettled: boolean
  /** Runs the handler of one job. */
  job(subject: JobSubject, tools: Tools, handle: () => Promise<Verdict>): Promise<Verdict>
}

/** How soon a worker's death, or a new worker, moves shards. A look costs a request per member. */
const LOOK_MS = 15_000
/** SQS answers a long poll after that long at the latest. */
const LONG_POLL_MS = 20_000
/** What a document tells of the disk is that old at most, while something changes. */
const DISK_MS = 60_000
/** Enough to tell how warm a worker is, and small in the ledger. */
const MAX_WARM = 50

/** Joins the fleet. Throws what `--listen` can't be served for (exit 2 or 4); the rest it tells of and lives without. */
export async function openLife(options: LifeOptions): Promise<WorkerLife> {
  const { project, name, slots, queue, leases, settings, departure, watch, onProblem } = options
  const { ledger } = project
  await using undo = new AsyncDisposableStack()
  const machine = new Machine(options)
  let instanceId: string | undefined
  let member: Member | undefined
  let shards = preferredShards(name, [name], queue.shards)
  const startedAt = Date.now()

  const document = (): WorkerDocument => ({
    ...{ version: 1, name, owner: leases.current.owner, bake: packageVersion(), platform: machinePlatform() },
    ...{ state: watch.state, slots: slots.count, leaseMs: settings.leaseMs, startedAt, at: Date.now(), shards },
    running: watch.running,
    warm: machine.warm,
    counts: { ...watch.counts },
    ...(options.bakes && { bakes: true }),
    ...(instanceId !== undefined && { instance: instanceId }),
    ...(machine.disk && { disk: machine.disk }),
  })

  const fleet = new Members(ledger)
  let instance: Instance = noInstance
  if (project.aws) {
    const onId = (id: string) => {
      instanceId = id
      member?.changed()
    }
    const members = () => new Members(ledger).live()
    const about = { region: project.aws.region, settings, departure, name, members, onId, onProblem }
    instance = undo.use(openInstance(about))
  }

  const look = async () => {
    const names = (await fleet.live()).map((each) => each.name)
    const now = preferredShards(name, names, queue.shards)
    if (now.join() === shards.join()) return
    shards = now
    member?.changed()
  }
  // With one queue there is nothing to prefer, and nobody needs to be known.
  if (queue.shards > 1) {
    let troubled = false
    const onLook = () =>
      look().then(
        () => {
          troubled = false
        },
        (error: unknown) => {
          if (!troubled) onProblem(`who else works isn't known: ${messageOf(error)}`)
          troubled = true
        },
      )
    await onLook()
    const timer = setInterval(onLook, LOOK_MS).unref()
    undo.defer(() => clearInterval(timer))
  }

  if (options.listen !== undefined) undo.use(await serveWorker({ ...options, disk: () => machine.look() }, options.listen))
  const own = new Member(ledger, document, onProblem)
  member = own
  const onWarmth = () => void machine.lookAtCaches().then(() => own.changed())
  watch.listen((event) => {
    if (event.type === 'received' || event.type === 'problem') return
    // A garbage collection is told as a note.
    if (event.type === 'warmed' || event.type === 'note' || (event.type === 'ended' && event.status === 'built')) onWarmth()
    else void machine.look().then(() => own.changed())
  })
  onWarmth()
  undo.defer(async () => {
    watch.enter('ended')
    await own[Symbol.asyncDispose]()
  })

  let handedBackMs = Number.NEGATIVE_INFINITY
  watch.listen(({ type }) => {
    if (type === 'handed-back') handedBackMs = performance.now()
  })

  // A worker that is started again on a machine that is about to go takes no job.
  await instance.known
  const opened = undo.move()
  return {
    get shards() {
      return shards
    },
    get unsettled() {
      return performance.now() - handedBackMs < LONG_POLL_MS
    },
    job: (subject, tools, handle) => watch.job(subject, tools.receives, () => instance.during(handle)),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

/** The engine's disk and what its caches are warm for, looked at now and then. */
class Machine {
  readonly #options: Pick<LifeOptions, 'project' | 'engine' | 'room' | 'warmth'>
  #lookedMs = Number.NEGATIVE_INFINITY
  #engine: string | undefined
  disk: WorkerDocument['disk']
  warm: WorkerDocument['warm'] = []

  constructor(options: Pick<LifeOptions, 'project' | 'engine' | 'room' | 'warmth'>) {
    this.#options = options
  }

  /** Never throws: an engine that doesn't answer is told of by the first build, and by /healthz. */
  async look(): Promise<WorkerDocument['disk']> {
    if (performance.now() - this.#lookedMs > DISK_MS) {
      this.#lookedMs = performance.now()
      await this.#lookAtDisk().catch(() => {})
    }
    const { cacheBytes } = this.#options.room
    if (this.disk && cacheBytes !== undefined) this.disk.cacheBytes = cacheBytes
    return this.disk
  }

  /** The same, and the images that are warm: some small files. */
  async lookAtCaches(): Promise<void> {
    await this.look()
    if (this.#engine === undefined) return
    const warm = await this.#options.warmth.list(this.#engine)
    this.warm = warm.slice(0, MAX_WARM).map(({ image, at, by }) => ({ image, at, by }))
  }

  async #lookAtDisk(): Promise<void> {
    const { id, dataRoot } = await this.#options.engine.info()
    this.#engine = id
    const { freeBytes, totalBytes } = await diskOf(dataRoot ?? this.#options.project.stateDir)
    this.disk = { freeBytes, totalBytes }
  }
}
