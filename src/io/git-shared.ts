/**
 * Calls that are the same share one run. Each caller's signal ends its own wait at once; the run is aborted when its last caller has gone.
 */
export class SharedCalls<T> {
  readonly #running = new Map<string, { result: Promise<T>; callers: number; stop: AbortController }>()

  async call(key: string, signal: AbortSignal, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    const shared = this.#running.get(key) ?? this.#start(key, run)
    shared.callers++
    const gone = Promise.withResolvers<never>()
    const onAbort = () => gone.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([shared.result, gone.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
      shared.callers--
      if (shared.callers === 0) {
        // Whoever comes from now on starts anew: this run is ending.
        if (this.#running.get(key) === shared) this.#running.delete(key)
        shared.stop.abort(signal.reason)
        await shared.result.catch(() => {})
      }
    }
  }

  #start(key: string, run: (signal: AbortSignal) => Promise<T>) {
    const stop = new AbortController()
    const shared = { result: run(stop.signal), callers: 0, stop }
    this.#running.set(key, shared)
    const forget = () => {
      if (this.#running.get(key) === shared) this.#running.delete(key)
    }
    shared.result.then(forget, forget)
    return shared
  }
}
