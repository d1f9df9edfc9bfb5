import { setTimeout as sleep } from 'node:timers/promises'
import { type BakeError, messageOf, unavailable } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'

const BEATS_PER_LEASE = 3
/** Beats under way at once: when one hangs the next tries anew, but they don't pile up. */
const MAX_UNDER_WAY = 3

export interface HeartbeatOptions {
  leaseMs: number
  /** Monotonic ms; performance.now unless told. On Linux it runs on while the process is stopped, not while the machine is suspended. */
  now?: () => number
}

/**
 * Keeps `beats/<owner>` younger than a lease, and knows when it may not be. The lease counts from when the last good beat was *sent*, so this side gives up
 * before anyone else sees the beat as too old. Once lost it stays lost: start another one.
 */
export class Heartbeat implements AsyncDisposable {
  readonly #ledger: Ledger
  readonly #owner: string
  readonly #leaseMs: number
  readonly #now: () => number
  readonly #lost = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  #lastGood: number | undefined
  #trouble: unknown
  #beat: NodeJS.Timeout | undefined
  #watch: NodeJS.Timeout | undefined

  constructor(ledger: Ledger, owner: string, options: HeartbeatOptions) {
    this.#ledger = ledger
    this.#owner = owner
    this.#leaseMs = options.leaseMs
    this.#now = options.now ?? (() => performance.now())
  }

  /** Aborted, with a `lease_lost` BakeError (exit 4) as reason, when no beat was good for one lease. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Milliseconds since the last good beat was sent. */
  get ageMs(): number {
    return this.#lastGood === undefined ? Number.POSITIVE_INFINITY : this.#now() - this.#lastGood
  }

  /** Sends the first beat and waits for it, one lease at most. Throws what the ledger throws, or `lease_lost`. */
  async start(): Promise<void> {
    this.#lastGood = this.#now()
    this.#watchLease()
    const first = this.#send()
    try {
      await Promise.race([first, this.#lostPromise()])
      if (this.#trouble !== undefined) throw this.#trouble
    } catch (error) {
      this.#clear()
      throw error
    }
    this.check()
    this.#beat = setInterval(() => this.#tick(), this.#leaseMs / BEATS_PER_LEASE).unref()
  }

  /** To call before each step that only an owner may take: timers may be late after a pause, this isn't. Throws (and aborts `lost` with) `lease_lost`. */
  check(): void {
    if (this.#lastGood !== undefined && this.#now() - this.#lastGood > this.#leaseMs) this.#lose()
    this.#lost.signal.throwIfAborted()
  }

  /** No more beats; the last one ages from here on. Waits for beats under way, a third of a lease at most. Never rejects. */
  async stop(): Promise<void> {
    this.#clear()
    if (this.#underWay.size === 0) return
    const patience = new AbortController()
    const tooLong = sleep(this.#leaseMs / BEATS_PER_LEASE, undefined, { signal: patience.signal }).catch(() => {})
    await Promise.race([Promise.all(this.#underWay), tooLong])
    patience.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #tick(): void {
    try {
      this.check()
    } catch {
      return
    }
    if (this.#underWay.size < MAX_UNDER_WAY) void this.#send()
  }

  /** Never rejects: trouble is kept, and the lease decides whether it matters. */
  #send(): Promise<void> {
    const sent = this.#now()
    const beat = this.#ledger
      .touch(keys.beat(this.#owner))
      .then(
        () => {
          this.#lastGood = Math.max(this.#lastGood ?? sent, sent)
          this.#trouble = undefined
        },
        (error) => {
          this.#trouble = error
        },
      )
      .finally(() => this.#underWay.delete(beat))
    this.#underWay.add(beat)
    return beat
  }

  #watchLease(): void {
    const leftMs = (this.#lastGood ?? 0) + this.#leaseMs - this.#now()
    if (leftMs < 0) this.#lose()
    else this.#watch = setTimeout(() => this.#watchLease(), leftMs + 1).unref()
  }

  #lose(): void {
    this.#clear()
    this.#lost.abort(this.#lostError())
  }

  #lostError(): BakeError {
    const cause = this.#trouble
    const why = cause === undefined ? 'it was paused, or the ledger did not answer' : messageOf(cause)
    return unavailable('lease_lost', `${this.#owner} sent no heartbeat to the ledger for ${this.#leaseMs / 1000} s: ${why}`, {
      next: 'nothing to do when another worker took over; else check that this machine reaches the ledger',
      ids: { owner: this.#owner },
      cause,
    })
  }

  #lostPromise(): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>()
    this.#lost.signal.addEventListener('abort', () => reject(this.#lost.signal.reason), { once: true })
    return promise
  }

  #clear(): void {
    clearInterval(this.#beat)
    clearTimeout(this.#watch)
  }
}

/**
 * Whether `owner` has beaten within the lease, by the ledger's clock, and nobody who knows better has dug its grave. Says who may waste
 * work, never who owns a claim.
 */
export async function isAlive(ledger: Ledger, owner: string, leaseMs: number): Promise<boolean> {
  const [ageMs, grave] = await Promise.all([ledger.age(keys.beat(owner)), ledger.get(keys.grave(owner))])
  return ageMs !== undefined && ageMs < leaseMs && grave === undefined
}
