import { setTimeout as sleep } from 'node:timers/promises'

/** An account's default for PutSnapshotBlock, per second: https://docs.aws.amazon.com/general/latest/gr/ebs-service.html */
const MOST_PER_SECOND = 1_000
const LEAST_PER_SECOND = 5
/** Refusals that come this close together are one: those of puts that were under way. */
const SAME_MS = 250
const SLOWER = 0.5
/** Added to the rate with each put that went well. */
const FASTER = 0.5
/** What wasn't used so long ago isn't made up for. */
const BURST_MS = 50
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 1_000

/**
 * How fast an account may put blocks, as its refusals tell. One for everything that a bake uploads, to whatever region: what is refused slows all down
 * together, instead of each trying again by itself.
 */
export class Pace {
  #perSecond: number
  #next = 0
  #slowedAt = Number.NEGATIVE_INFINITY
  #pauseMs = FIRST_PAUSE_MS
  readonly #now: () => number

  /** `now`: monotonic milliseconds. */
  constructor({ perSecond = MOST_PER_SECOND, now = () => performance.now() }: { perSecond?: number; now?: () => number } = {}) {
    this.#perSecond = perSecond
    this.#now = now
  }

  get perSecond(): number {
    return this.#perSecond
  }

  /** Until the next put may be sent. */
  async turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const now = this.#now()
    const at = Math.max(this.#next, now - BURST_MS)
    this.#next = at + 1_000 / this.#perSecond
    if (at > now) await sleep(at - now, undefined, { signal })
  }

  went(): void {
    this.#perSecond = Math.min(MOST_PER_SECOND, this.#perSecond + FASTER)
    if (this.#now() - this.#slowedAt > LONGEST_PAUSE_MS) this.#pauseMs = FIRST_PAUSE_MS
  }

  /** The account, or the snapshot, takes no more for now. */
  refused(): void {
    const now = this.#now()
    if (now - this.#slowedAt < SAME_MS) return
    this.#slowedAt = now
    this.#perSecond = Math.max(LEAST_PER_SECOND, this.#perSecond * SLOWER)
    // Another machine's upload was refused at the same moment.
    const pause = this.#pauseMs * (0.5 + Math.random())
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2)
    this.#next = Math.max(this.#next, now + pause)
  }
}
