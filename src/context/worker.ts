import { mkdir, readdir } from 'node:fs/promises'
import { availableParallelism, hostname } from 'node:os'
import { join } from 'node:path'
import { messageOf, refused, unavailable } from '../errors.ts'
import { buildImage } from '../image/build.ts'
import { buildxRecord } from '../io/buildx.ts'
import { killRecorded } from '../io/child-record.ts'
import { tryLock } from '../io/host/lock.ts'
import { prepareStateDir } from '../io/host/state-dir.ts'
import type { Mirror } from '../io/mirror.ts'
import type { Queue } from '../io/queue.ts'
import { sweepSecrets } from '../io/secrets.ts'
import { Departure } from '../jobs/departure.ts'
import { Journal } from '../jobs/held.ts'
import { type Handlers, receiveLoop } from '../jobs/loop.ts'
import { receiveBakes } from '../jobs/receive-bakes.ts'
import { Slots } from '../jobs/slots.ts'
import { Teller } from '../jobs/tell.ts'
import { WarmthBook } from '../jobs/warmth.ts'
import type { TellWorker } from '../jobs/worker-events.ts'
import { WorkerWatch } from '../jobs/worker-watch.ts'
import { NAME_PATTERN } from '../names.ts'
import { openRoom, warmCaches } from './caches.ts'
import { openHooks } from './hooks.ts'
import { imageWorld } from './image-world.ts'
import { buryPredecessor, Leases } from './leases.ts'
import type { Project } from './project.ts'
import { scrubWhenIdle } from './scrub.ts'
import type { Services } from './services.ts'
import { readSettings } from './settings.ts'
import { openLife } from './worker-life.ts'

export interface WorkerOptions {
  project: Project
  /** What jobs may name as their repository, and where it is really fetched from: on one machine the checkout. */
  repositories: Map<string, string>
  services: Pick<Services, 'queue' | 'target' | 'cache'>
  /** Given: that name or an error. Not given: `local` (on AWS the machine's name), or `local-2`, … when that runs already. */
  name?: string | undefined
  slots?: number | undefined
  /** Whether it takes machine jobs; as bake.yaml says unless told. On one machine whoever asks bakes. */
  bakes?: boolean | undefined
  once: boolean
  /** Leaves: takes nothing new, and finishes what runs within `drainMs`, or however long it takes. */
  drain: AbortSignal
  /** Hands back at once what runs. */
  abort: AbortSignal
  /** Asked when `drain` is aborted. */
  drainMs?: () => number | undefined
  /** `HOST:PORT` for /healthz and /metrics. */
  listen?: string | undefined
  onProblem: (text: string) => void
  onReady?: (worker: { name: string; slots: number }) => void
  /** Told how many slots are busy whenever asked. */
  onSlots?: (slots: Slots) => void
  /** Given what fetches a commit before there is a job for it. */
  onFetch?: (fetch: (repository: string, commit: string) => Promise<void>) => void
}

/** What a worker is started with: problems are told like all that happens on it. */
export type WorkerRequest = Omit<WorkerOptions, 'onProblem'> & { tell: TellWorker }

/** One member of the fleet: takes jobs until it is drained. Throws worker_runs_already (exit 4) for a name in use on this state directory. */
export async function runWorker(request: WorkerRequest): Promise<void> {
  const watch = new WorkerWatch([request.tell])
  const onProblem = (text: string) => watch.tell({ type: 'problem', text })
  using departure = new Departure({ drainMs: () => undefined, ...request }, (why, withinMs) => watch.leaves(why, withinMs))
  const options: WorkerOptions = { ...request, drain: departure.drain, abort: departure.abort, onProblem }
  const { project, services } = options
  const settings = readSettings()
  // Of a worker on AWS nobody else has made it.
  await prepareStateDir(project.stateDir)
  await using identity = await takeName(join(project.stateDir, 'workers'), options.name, project.aws ? machineName() : 'local')
  const { name, dir } = identity
  const slots = new Slots(options.slots ?? project.config.worker.slots ?? Math.max(2, availableParallelism()))
  options.onSlots?.(slots)
  watch.tell({ type: 'named', worker: name, slots: slots.count })

  await buryPredecessor(project, dir)
  const queue: Queue = await services.queue()
  const journal = new Journal(join(dir, 'held'))
  // Of more slots than today's, if there were more.
  for (const name of await readdir(dir)) if (name.startsWith('slot-')) await killRecorded(buildxRecord(join(dir, name, 'buildx')))
  await sweepSecrets()
  await journal.handBack(queue)

  await using leases = await Leases.open(project, identity, settings.leaseMs, watch.tell)
  const mirrors = new Map<string, Mirror>()
  const warmth = new WarmthBook(join(project.stateDir, 'warmth'))
  using room = openRoom({ project, slots, warmth, watch })
  const me = { name, dir, leases, settings, watch, warmth, room: () => room.forBuild() }
  const world = imageWorld(options, me, mirrors)
  options.onFetch?.(async (repository, commit) => void (await world.source(repository).fetch({ commit, signal: options.abort })))
  const bakes = project.aws !== undefined && (options.bakes ?? project.config.worker.bakes)
  // A bake takes no build's slot, and no build a bake's.
  const bakeSlots = new Slots(bakes ? 1 : 0)
  const teller = new Teller({
    ledger: project.ledger,
    hooks: openHooks(project.config.notify, process.env),
    leaseMs: settings.leaseMs,
    owner: () => leases.current.owner,
    onProblem: options.onProblem,
  })
  using _upkeep = packWhenIdle(slots, mirrors, options)
  const { engine } = world
  await using life = await openLife({ ...options, ...me, slots: both(slots, bakeSlots), bakes, queue, engine, departure, room })
  await using _scrub = scrubWhenIdle({ ...options, stateDir: project.stateDir, slots: [slots, bakeSlots] })
  await using _warm = await warmCaches({ ...options, slots, world, settings, watch, shards: () => life.shards })
  options.onReady?.({ name, slots: slots.count })
  watch.enter('ready')
  try {
    const { drain, abort, once } = options
    const { visibilitySeconds } = settings
    const onQueueError = (text: string) => watch.tell({ type: 'queue-error', text })
    const loop = { queue, journal, visibilitySeconds, drain, abort, once, onQueueError, onProblem }
    const finished = new AbortController()
    const image: Handlers['image'] = (job, tools) =>
      life.job(job, tools, async () => teller.after(await buildImage(job, world, tools), job.build, tools))
    const stealAfterMs = project.aws && (project.config.fleet.stealAfterSeconds ?? STEAL_AFTER_SECONDS) * 1000
    const shards = () => life.shards
    const builds = receiveLoop({ ...loop, finished, slots, shards, stealAfterMs, handlers: { image } })
    if (bakes) {
      const { machineHandler } = await import('./machine-job-world.ts')
      const machine = machineHandler(options, me, world, life)
      await receiveLoop({ ...loop, finished, slots: bakeSlots, receive: receiveBakes, handlers: { machine } })
    }
    await builds
    if (life.unsettled) await queue.settled()
  } finally {
    queue.close()
  }
}

/** For those who count them. */
const both = (one: Slots, other: Slots): Pick<Slots, 'count' | 'busy'> => ({
  count: one.count + other.count,
  get busy() {
    return one.busy + other.busy
  },
})

/** A worker that always has work of its own asks the other shards this often: often enough that nobody waits long, and its caches stay its own. */
const STEAL_AFTER_SECONDS = 60

const IDLE_LOOK_MS = 3_000
/** `git gc --auto` mostly finds nothing to do, but asking is a process. */
const UPKEEP_MS = 60_000

/** Each fetch leaves a pack; git packs them together when there are many, in a pause between builds. */
function packWhenIdle(slots: Slots, mirrors: ReadonlyMap<string, Mirror>, { drain, onProblem }: WorkerOptions): Disposable {
  let lastMs = Number.NEGATIVE_INFINITY
  const timer = setInterval(() => {
    if (slots.busy > 0 || mirrors.size === 0 || performance.now() - lastMs < UPKEEP_MS) return
    lastMs = performance.now()
    for (const mirror of mirrors.values())
      mirror.maintain(drain).catch((error) => drain.aborted || onProblem(`git gc: ${messageOf(error)}`))
  }, IDLE_LOOK_MS).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/** A worker's name is held by an OS lock, so that its slots, journal and pid files have one owner. */
async function takeName(
  root: string,
  wanted: string | undefined,
  usual: string,
): Promise<{ name: string; dir: string } & AsyncDisposable> {
  if (wanted !== undefined && !NAME_PATTERN.test(wanted))
    throw refused('bad_name', `${JSON.stringify(wanted)} is no worker name`, { next: 'use a–z, 0–9 and dashes' })
  for (let n = 1; ; n++) {
    const name = wanted ?? (n === 1 ? usual : `${usual}-${n}`)
    const dir = join(root, name)
    await mkdir(dir, { recursive: true })
    const lock = await tryLock(join(dir, 'lock'))
    if (lock) return { name, dir, [Symbol.asyncDispose]: async () => lock.release() }
    if (wanted !== undefined) {
      throw unavailable('worker_runs_already', `a worker called ${name} runs on this machine already`, {
        next: 'give this one another --name, or none',
        ids: { worker: name },
      })
    }
  }
}

/** A fleet's members have names of their own: on EC2 the host's name holds its address. */
function machineName(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 60)
  return NAME_PATTERN.test(name) ? name : 'worker'
}
