import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'

/** Idle this long before the protection goes: jobs that come one after the other are two calls, not two each. */
const IDLE_MS = 60_000
/** A job waits for the protection no longer than this. */
const PATIENCE_MS = 5_000
/** Between two complaints that it can't be set. */
const COMPLAIN_MS = 10 * 60_000

export interface ProtectionOptions {
  /** Sets or removes the instance's scale-in protection. */
  set: (on: boolean) => Promise<void>
  onProblem: (text: string) => void
  idleMs?: number
}

/** Scale-in protection while there is work: set before the first claim, removed when nothing ran for a while. Failures are only told. */
export class Protection implements AsyncDisposable {
  readonly #options: ProtectionOptions
  #jobs = 0
  #wanted = false
  #set = false
  #turning: Promise<void> | undefined
  #idle: NodeJS.Timeout | undefined
  #complainedMs = Number.NEGATIVE_INFINITY

  constructor(options: ProtectionOptions) {
    this.#options = options
  }

  /** Resolves when the instance is protected, or protecting it failed or took too long. Never rejects. Let go of each hold. */
  async hold(): Promise<void> {
    this.#jobs++
    clearTimeout(this.#idle)
    this.#wanted = true
    const late = new AbortController()
    await Promise.race([this.#turn(), sleep(PATIENCE_MS, undefined, { signal: late.signal, ref: false }).catch(() => {})])
    late.abort()
  }

  release(): void {
    this.#jobs--
    if (this.#jobs > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => {
      this.#wanted = false
      void this.#turn()
    }, this.#options.idleMs ?? IDLE_MS).unref()
  }

  /** Takes the protection away: the worker is going. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle)
    this.#wanted = false
    await this.#turn()
  }

  /** One call at a time, towards what is wanted last. */
  #turn(): Promise<void> {
    this.#turning ??= this.#call().finally(() => {
      this.#turning = undefined
    })
    return this.#turning
  }

  async #call(): Promise<void> {
    while (this.#set !== this.#wanted) {
      const on = this.#wanted
      try {
        await this.#options.set(on)
        this.#set = on
      } catch (error) {
        if (performance.now() - this.#complainedMs > COMPLAIN_MS)
          this.#options.onProblem(`scale-in protection can't be ${on ? 'set' : 'removed'}: ${messageOf(error)}`)
        this.#complainedMs = performance.now()
        return
      }
    }
  }
}
