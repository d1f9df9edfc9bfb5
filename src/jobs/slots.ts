/** A build's place on this worker: its own work tree, BUILDX_CONFIG and pid file. */
export interface Slot {
  readonly index: number
  release(): void
}

/** The worker's slots. The most recently used free one goes first: its work tree and BuildKit's copy of it are the warmest. */
export class Slots {
  readonly #free: number[]
  #waiting: (() => void)[] = []
  readonly count: number

  constructor(count: number) {
    this.count = count
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index)
  }

  get free(): number {
    return this.#free.length
  }

  get busy(): number {
    return this.count - this.#free.length
  }

  tryTake(): Slot | undefined {
    const index = this.#free.pop()
    if (index === undefined) return undefined
    let held = true
    const release = () => {
      if (!held) return
      held = false
      this.#free.push(index)
      const waiting = this.#waiting
      this.#waiting = []
      for (const wake of waiting) wake()
    }
    return { index, release }
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
}
