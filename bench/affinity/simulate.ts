import { preferredShards, shardOf } from '../../src/jobs/affinity.ts'
import { Polling } from '../../src/jobs/poll.ts'
import { Clock, seeded } from './clock.ts'
import { Queues, VISIBILITY_MS } from './queues.ts'

export interface Simulated {
  seed: number
  workers: number
  /** Builds at a time on each. */
  slots: number
  /** 1: any free worker takes the next job. */
  shards: number
  stealAfterMs: number
  images: number
  jobs: number
  /** Poisson arrivals, jobs per ms over the whole fleet. */
  rate: number
  /** Mean of a build; each takes 0.5 to 1.5 times that. */
  warmMs: number
  coldMs: number
  /** A worker is warm for what it built within this time … */
  warmForMs: number
  /** … if that is among the images that it built last. */
  cacheImages: number
  /** Of each request to SQS. */
  roundTripMs: number
  /** A worker dies each time, and a new one with empty caches comes a minute later. 0: none. */
  churnMs: number
}

export interface Outcome {
  /** Share of builds that a warm worker did. */
  warmShare: number
  /** Mean and 99th percentile from a message's being in the queue to the beginning of the build that finished. */
  waitS: number
  waitP99S: number
  /** Share of the slots' time that builds took. */
  busy: number
  meanBuildS: number
  requestsPerWorkerHour: number
  /** Messages that came when the slots were taken. */
  handedBack: number
  /** Builds that died with their worker. */
  lost: number
}

/** A death is known when its lease is over and the members are looked at; a new worker at their next look. */
const DEATH_KNOWN_MS = 30_000
const BIRTH_KNOWN_MS = 10_000
const REPLACED_MS = 60_000

interface Job {
  image: number
  shard: number
  sentMs: number
  /** Its own part of the mean build time. */
  size: number
}

class Worker {
  alive = true
  own: readonly number[] = []
  free: number
  readonly running = new Set<Job>()
  /** When each image was last built here, least recently first. */
  readonly cache = new Map<number, number>()
  readonly polling: Polling
  readonly name: string
  wakeMs = Number.POSITIVE_INFINITY

  constructor(name: string, { slots, shards, stealAfterMs }: Simulated, random: () => number, nowMs: number) {
    this.name = name
    this.free = slots
    this.polling = new Polling({ shards, stealAfterMs: shards > 1 ? stealAfterMs : undefined, random }, nowMs)
  }
}

/** One run in virtual time with the worker's own routing code: shardOf, preferredShards and Polling. */
export function simulate(given: Simulated): Outcome {
  const { seed, shards, jobs } = given
  const clock = new Clock()
  const [arrivals, chance, jitter] = [seeded(seed), seeded(seed + 1_000), seeded(seed + 2_000)]
  const queues = new Queues<Job>(clock, chance, given)
  const workers: Worker[] = []
  const waits: number[] = []
  const sum = { warm: 0, buildMs: 0, handedBack: 0, lost: 0 }
  let born = 0

  const learn = () => {
    const live = workers.filter(({ alive }) => alive)
    const names = live.map(({ name }) => name)
    for (const worker of live) {
      worker.own = preferredShards(worker.name, names, shards)
      ask(worker)
    }
  }
  const join = () => {
    const worker = new Worker(`worker-${seed}-${born++}`, given, jitter, clock.nowMs)
    workers.push(worker)
    worker.own = preferredShards(
      worker.name,
      [...workers.filter(({ alive }) => alive)].map(({ name }) => name),
      shards,
    )
    ask(worker)
  }
  /** As receive.ts does it. */
  const ask = (worker: Worker) => {
    if (!worker.alive) return
    for (const each of worker.polling.next(clock.nowMs, worker.free, worker.own)) {
      queues.receive(
        each,
        () => worker.alive,
        (got) => {
          worker.polling.answered(each, got === 'missing' ? got : got.length, clock.nowMs)
          for (const job of got === 'missing' ? [] : got) take(worker, job)
          ask(worker)
        },
      )
    }
    const dueMs = worker.polling.dueMs(clock.nowMs)
    if (dueMs >= worker.wakeMs || dueMs === Number.POSITIVE_INFINITY) return
    worker.wakeMs = dueMs
    clock.at(dueMs, () => {
      if (worker.wakeMs !== dueMs) return
      worker.wakeMs = Number.POSITIVE_INFINITY
      ask(worker)
    })
  }
  const take = (worker: Worker, job: Job) => {
    if (worker.free === 0) {
      sum.handedBack++
      return queues.handBack('normal', job.shard, job)
    }
    const beganMs = clock.nowMs
    const builtMs = worker.cache.get(job.image)
    const warm = builtMs !== undefined && beganMs - builtMs <= given.warmForMs
    const buildMs = (warm ? given.warmMs : given.coldMs) * job.size
    worker.free--
    worker.running.add(job)
    clock.in(buildMs, () => {
      if (!worker.alive) return
      worker.free++
      worker.running.delete(job)
      worker.cache.delete(job.image)
      worker.cache.set(job.image, clock.nowMs)
      if (worker.cache.size > given.cacheImages) worker.cache.delete(worker.cache.keys().next().value!)
      if (warm) sum.warm++
      sum.buildMs += buildMs
      waits.push(beganMs - job.sentMs)
      ask(worker)
    })
  }
  const die = () => {
    const live = workers.filter(({ alive }) => alive)
    const worker = live[Math.floor(chance() * live.length)]!
    worker.alive = false
    sum.lost += worker.running.size
    // Last renewed up to a third of the visibility timeout ago.
    for (const job of worker.running) clock.in(VISIBILITY_MS * (1 - chance() / 3), () => queues.put('normal', job.shard, job))
    clock.in(DEATH_KNOWN_MS, learn)
    clock.in(REPLACED_MS, () => {
      join()
      clock.in(BIRTH_KNOWN_MS, learn)
    })
  }

  for (let n = 0; n < given.workers; n++) join()
  learn()
  const shard = Array.from({ length: given.images }, (_, image) =>
    shardOf({ project: `bench-${seed}`, image: `image-${image}` }, shards),
  )
  const zipf = cumulative(given.images)
  let sentMs = 0
  for (let n = 0; n < jobs; n++) {
    sentMs += -Math.log(1 - arrivals()) / given.rate
    const at = arrivals()
    const image = zipf.findIndex((share) => at < share)
    const job: Job = { image, shard: shard[image]!, sentMs, size: 0.5 + arrivals() }
    clock.at(sentMs, () => queues.put('normal', job.shard, job))
  }
  if (given.churnMs > 0) for (let atMs = given.churnMs; atMs < sentMs; atMs += given.churnMs) clock.at(atMs, die)
  while (waits.length < jobs) if (!clock.step()) throw new Error(`${jobs - waits.length} jobs were lost`)

  waits.sort((a, b) => a - b)
  const hours = clock.nowMs / 3_600_000
  return {
    warmShare: sum.warm / jobs,
    waitS: waits.reduce((total, wait) => total + wait, 0) / jobs / 1000,
    waitP99S: waits[Math.floor(jobs * 0.99)]! / 1000,
    busy: sum.buildMs / (clock.nowMs * given.workers * given.slots),
    meanBuildS: sum.buildMs / jobs / 1000,
    requestsPerWorkerHour: queues.requests / given.workers / hours,
    handedBack: sum.handedBack,
    lost: sum.lost,
  }
}

/** Zipf's law with s = 1: the nth image is asked for 1/n times as often as the first. Cumulated shares. */
function cumulative(images: number): number[] {
  const weights = Array.from({ length: images }, (_, n) => 1 / (n + 1))
  const total = weights.reduce((sum, weight) => sum + weight)
  let reached = 0
  return weights.map((weight, n) => {
    reached += weight / total
    return n === images - 1 ? 1 : reached
  })
}
