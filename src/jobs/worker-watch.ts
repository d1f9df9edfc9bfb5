import { buildIdTime } from '../names.ts'
import type { Verdict } from './loop.ts'
import { type BuildRecord, ENDED, type WorkerDocument } from './records.ts'
import type { TellWorker, WorkerEvent, WorkerState } from './worker-events.ts'

/** What a job is about, for people. */
export interface JobSubject {
  build: string
  image: string
  priority?: 'normal' | 'high'
}

/** What a worker is doing, folded from what is told to it; tells `listeners` of each change. */
export class WorkerWatch {
  readonly #listeners: TellWorker[]
  readonly #running = new Map<string, { image: string; since: number }>()
  /** Received, and not ended as far as we know. */
  readonly #open = new Set<string>()
  #state: WorkerState = 'warming'
  readonly counts = { built: 0, tagged: 0, failed: 0 }

  constructor(listeners: TellWorker[] = []) {
    this.#listeners = listeners
  }

  get state(): WorkerState {
    return this.#state
  }

  /** Builds that hold a claim, oldest first. */
  get running(): WorkerDocument['running'] {
    return [...this.#running].map(([build, about]) => ({ build, ...about }))
  }

  listen(listener: TellWorker): void {
    this.#listeners.push(listener)
  }

  /** A state is never left for an earlier one: who drains doesn't become ready. */
  enter(state: WorkerState, why?: string): void {
    if (ORDER.indexOf(state) <= ORDER.indexOf(this.#state)) return
    this.#state = state
    this.tell({ type: 'state', state, ...(why === undefined ? {} : { why }) })
  }

  /** It leaves for that reason; what runs then has so long. */
  leaves(why: string, withinMs: number | undefined): void {
    const hurry = withinMs === undefined ? '' : `; what runs in ${Math.max(0, Math.round(withinMs / 1000))} s is handed back`
    if (this.#state === 'draining') this.tell({ type: 'note', text: `${why}${hurry}` })
    else this.enter('draining', `${why}${hurry}`)
  }

  /** Runs one job's handler between `received` and what became of it. */
  async job(subject: JobSubject, receives: number, handle: () => Promise<Verdict>): Promise<Verdict> {
    const { build, image, priority = 'normal' } = subject
    this.tell({ type: 'received', build, image, priority, receives })
    this.#open.add(build)
    try {
      const verdict = await handle()
      // A message may outlive its build's end, to be told of again.
      if (verdict.do === 'release' && this.#open.has(build))
        this.tell({ type: 'handed-back', build, image, inSeconds: verdict.inSeconds })
      return verdict
    } finally {
      this.#open.delete(build)
      this.#running.delete(build)
    }
  }

  /** The record of a build that this worker has is now like this. `takenFrom`: the owner whose claim ended with the newest one. */
  record(record: BuildRecord, takenFrom?: string): void {
    const { build, image, status } = record
    if (status !== 'running') this.#running.delete(build)
    if (status === 'running') this.#claimed(record, takenFrom)
    else if (status === 'waiting') this.tell({ type: 'waiting', build, image, leader: record.leader?.build ?? '' })
    else if (ENDED.has(status)) this.#ended(record)
  }

  /** The caches hold what building this image needs. */
  warmed(image: string): void {
    this.tell({ type: 'warmed', image })
  }

  readonly tell = (event: WorkerEvent): void => {
    for (const listener of this.#listeners) listener(event)
  }

  #claimed({ build, image, claim = 0 }: BuildRecord, takenFrom: string | undefined): void {
    const now = Date.now()
    this.#running.set(build, { image, since: now })
    // By the asker's clock and ours: near enough, and never negative.
    const waited = Math.max(0, (now - buildIdTime(build)) / 1000)
    this.tell({ type: 'claimed', build, image, claim, waited, ...(takenFrom === undefined ? {} : { takenFrom }) })
  }

  #ended(record: BuildRecord): void {
    const { build, image, status, startedAt, endedAt, digest, tag, warmth, failure, supersededBy } = record
    // An image has its digest.
    const reference = record.machine && record.reference
    this.#open.delete(build)
    if (status === 'built' || status === 'tagged' || status === 'failed') this.counts[status]++
    const seconds = Math.max(0, ((endedAt ?? Date.now()) - (startedAt ?? endedAt ?? Date.now())) / 1000)
    const more = Object.fromEntries(
      Object.entries({ digest, reference, tag, warmth, failure, supersededBy }).filter(([, value]) => value !== undefined),
    )
    this.tell({ type: 'ended', build, image, status, seconds, ...more })
  }
}

const ORDER: readonly WorkerState[] = ['warming', 'ready', 'draining', 'ended']
