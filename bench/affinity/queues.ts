import type { Ask } from '../../src/jobs/asks.ts'
import type { Clock } from './clock.ts'

/** SQS hides what it hands out for this long; a worker renews at a third of it. */
export const VISIBILITY_MS = 60_000

interface Poll<Job> {
  answer: (jobs: Job[]) => void
  alive: () => boolean
  over: boolean
}

interface Line<Job> {
  visible: Job[]
  polls: Poll<Job>[]
}

/**
 * SQS in virtual time: half a round trip each way; who long-polls a queue is given its next message, at random among them; a poll whose worker
 * died is given one all the same, which is visible again after its visibility timeout. Without the sampling of short polls.
 */
export class Queues<Job> {
  requests = 0
  readonly #lines = new Map<string, Line<Job>>()
  readonly #clock: Clock
  readonly #random: () => number
  readonly #halfMs: number
  readonly #shards: number

  constructor(clock: Clock, random: () => number, { shards, roundTripMs }: { shards: number; roundTripMs: number }) {
    this.#shards = shards
    this.#clock = clock
    this.#random = random
    this.#halfMs = roundTripMs / 2
  }

  /** What is sent is in the queue now. */
  put(lane: string, shard: number, job: Job): void {
    const line = this.#line(lane, shard)
    const [poll] = line.polls.splice(Math.floor(this.#random() * line.polls.length), 1)
    if (poll) this.#give(lane, shard, poll, [job])
    else line.visible.push(job)
  }

  /** Hands a message back: ChangeMessageVisibility to 0. */
  handBack(lane: string, shard: number, job: Job): void {
    this.requests++
    this.#clock.in(this.#halfMs, () => this.put(lane, shard, job))
  }

  /** `missing` for a queue beyond those that there are. */
  receive({ lane, shard, waitSeconds, max }: Ask, alive: () => boolean, answer: (jobs: Job[] | 'missing') => void): void {
    this.requests++
    if (shard >= this.#shards) {
      this.#clock.in(2 * this.#halfMs, () => alive() && answer('missing'))
      return
    }
    const poll: Poll<Job> = { answer, alive, over: false }
    this.#clock.in(this.#halfMs, () => {
      const line = this.#line(lane, shard)
      if (line.visible.length > 0 || waitSeconds === 0) return this.#give(lane, shard, poll, line.visible.splice(0, max))
      line.polls.push(poll)
      this.#clock.in(waitSeconds * 1000, () => {
        if (poll.over) return
        line.polls.splice(line.polls.indexOf(poll), 1)
        this.#give(lane, shard, poll, [])
      })
    })
  }

  #give(lane: string, shard: number, poll: Poll<Job>, jobs: Job[]) {
    poll.over = true
    this.#clock.in(this.#halfMs, () => {
      if (poll.alive()) return poll.answer(jobs)
      for (const job of jobs) this.#clock.in(VISIBILITY_MS, () => this.put(lane, shard, job))
    })
  }

  #line(lane: string, shard: number): Line<Job> {
    const name = `${lane}-${shard}`
    const line = this.#lines.get(name) ?? { visible: [], polls: [] }
    this.#lines.set(name, line)
    return line
  }
}
