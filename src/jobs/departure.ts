/**
 * A worker's way out: the first reason to leave drains it (nothing new is taken, what runs is finished); when the time that reason gives is over,
 * what still runs is handed back. Later reasons may only shorten the time. No attempt of a build is burned by either.
 */
export class Departure implements Disposable {
  readonly #drain = new AbortController()
  readonly #abort = new AbortController()
  readonly #onLeave: (why: string, withinMs: number | undefined) => void
  readonly #over = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #endMs = Number.POSITIVE_INFINITY
  #why: string | undefined

  /**
   * @param drain from outside, like a first SIGTERM; leaves within `drainMs`, which is asked when it comes; undefined: however long it takes.
   * @param abort from outside: hands back at once.
   */
  constructor(
    { drain, abort, drainMs }: { drain: AbortSignal; abort: AbortSignal; drainMs: () => number | undefined },
    onLeave: (why: string, withinMs: number | undefined) => void = () => {},
  ) {
    this.#onLeave = onLeave
    const once = { once: true, signal: this.#over.signal }
    const onDrain = () => this.leave(drain.reason instanceof Error ? drain.reason.message : 'stopped', drainMs())
    const onAbort = () => this.#handBack(abort.reason)
    drain.addEventListener('abort', onDrain, once)
    abort.addEventListener('abort', onAbort, once)
    if (drain.aborted) onDrain()
    if (abort.aborted) onAbort()
  }

  /** Aborted by the first reason to leave. */
  get drain(): AbortSignal {
    return this.#drain.signal
  }

  /** Aborted when what runs is to be handed back. */
  get abort(): AbortSignal {
    return this.#abort.signal
  }

  /** The first reason. */
  get why(): string | undefined {
    return this.#why
  }

  leave(why: string, withinMs?: number): void {
    const endMs = withinMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + Math.max(0, withinMs)
    const news = this.#why === undefined || endMs < this.#endMs
    this.#why ??= why
    if (endMs < this.#endMs) {
      this.#endMs = endMs
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#handBack(new Error(why)), Math.max(0, withinMs ?? 0))
    }
    this.#drain.abort(new Error(why))
    if (news) this.#onLeave(why, withinMs)
  }

  [Symbol.dispose](): void {
    this.#over.abort()
    clearTimeout(this.#timer)
  }

  #handBack(reason: unknown): void {
    this.#drain.abort(reason)
    this.#abort.abort(reason)
  }
}
