import type { Lane } from '../io/queue.ts'

/** One receive: which queue, how long it may wait there for a message (SQS: 0–20 s), for how many at most. */
export interface Ask {
  readonly lane: Lane
  readonly shard: number
  readonly waitSeconds: number
  readonly max: number
}

/** What is known of one queue. */
export interface Line {
  readonly lane: Lane
  readonly shard: number
  ask?: Ask | undefined
  askedAt: number
  /** When it last answered with nothing; messages undo that. */
  emptyAt: number
  retryAt: number
}

/** The longest that SQS takes: what an idle worker costs is its requests. */
export const LONG_POLL_SECONDS = 20
const MAX_MESSAGES = 10

/** The asks of one call. Quick ones together take no more messages than there are free slots. */
export class Asks {
  readonly made: Ask[] = []
  readonly #nowMs: number
  readonly #free: number
  #left: number

  constructor(nowMs: number, free: number, lines: Iterable<Line>) {
    this.#nowMs = nowMs
    this.#free = free
    this.#left = free
    for (const { ask } of lines) if (ask?.waitSeconds === 0) this.#left -= ask.max
  }

  /** Asks without waiting, for a share of the free slots. False when none is left. */
  quick(line: Line, among = 1): boolean {
    if (this.#left < 1) return false
    const max = Math.min(MAX_MESSAGES, Math.max(1, Math.floor(this.#left / among)))
    this.#left -= max
    this.#start(line, 0, max)
    return true
  }

  long(line: Line): void {
    if (!line.ask && line.retryAt <= this.#nowMs) this.#start(line, LONG_POLL_SECONDS, Math.min(MAX_MESSAGES, this.#free))
  }

  #start(line: Line, waitSeconds: number, max: number) {
    line.ask = { lane: line.lane, shard: line.shard, waitSeconds, max }
    line.askedAt = this.#nowMs
    this.made.push(line.ask)
  }
}
