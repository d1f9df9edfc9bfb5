/** A build's place on this worker: its own work tree, BUILDX_CONFIG and pid file. */
export interface Slot {
  readonly index: number
  release(): void
}

/** The worker's slots. The most recently used free one goes first: its work tree and BuildKit's copy of it are the warmest. */
export class Slots {
  readonly #free: number[]
  #waiting: (() => void)[] = []
  #watching: (() => void)[] = []
  readonly #listeners = new Set<() => void>()
  #holds = 0
  readonly count: number

  constructor(count: number) {
    this.count = count
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index)
  }

  get free(): number {
    return this.#holds > 0 ? 0 : this.#free.length
  }

  get busy(): number {
    return this.count - this.#free.length
  }

  /** Until disposed nobody is given a slot; who has one keeps it. For what must not happen during a build, or while there is no room for one. */
  hold(): Disposable {
    this.#holds++
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (held && --this.#holds === 0) this.#freed()
        held = false
      },
    }
  }

  tryTake(): Slot | undefined {
    const index = this.#holds > 0 ? undefined : this.#free.pop()
    if (index === undefined) return undefined
    this.#watching = wakeAll(this.#watching)
    let held = true
    const release = () => {
      if (!held) return
      held = false
      this.#free.push(index)
      this.#freed()
    }
    return { index, release }
  }

  #freed() {
    this.#waiting = wakeAll(this.#waiting)
    for (const listener of this.#listeners) listener()
  }

  /** Waits for a slot; throws the signal's reason when aborted. */
  async take(signal: AbortSignal): Promise<Slot> {
    for (;;) {
      signal.throwIfAborted()
      const slot = this.tryTake()
      if (slot) return slot
      await this.whenFree(signal)
    }
  }

  /** Settles when a slot is free or the signal is aborted. */
  async whenFree(signal: AbortSignal): Promise<void> {
    if (this.free > 0 || signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  /** Calls `listener` whenever a slot may have become free, until disposed. */
  onFree(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** Settles when the next slot is taken or the signal is aborted. */
  async whenTaken(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#watching.push(resolve)
      // A worker without jobs is asked this for weeks.
      const end = () => {
        this.#watching = this.#watching.filter((each) => each !== resolve)
        resolve()
      }
      signal.addEventListener('abort', end, { once: true })
    })
  }
}

function wakeAll(sleepers: (() => void)[]): [] {
  for (const wake of sleepers) wake()
  return []
}
