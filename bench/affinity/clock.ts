interface Event {
  atMs: number
  /** Events of one moment happen in the order in which they were set. */
  n: number
  happen: () => void
}

/** Virtual time: a binary heap of what happens when. */
export class Clock {
  nowMs = 0
  readonly #heap: Event[] = []
  #count = 0

  at(atMs: number, happen: () => void): void {
    const heap = this.#heap
    let at = heap.push({ atMs, n: this.#count++, happen }) - 1
    for (let above = (at - 1) >> 1; at > 0 && before(heap[at]!, heap[above]!); above = (at - 1) >> 1) {
      swap(heap, at, above)
      at = above
    }
  }

  in(ms: number, happen: () => void): void {
    this.at(this.nowMs + ms, happen)
  }

  /** Lets the next event happen. False: there is none. */
  step(): boolean {
    const heap = this.#heap
    const next = heap[0]
    if (!next) return false
    const last = heap.pop()!
    if (heap.length > 0) {
      heap[0] = last
      for (let at = 0; ; ) {
        const [left, right] = [2 * at + 1, 2 * at + 2]
        let first = left < heap.length && before(heap[left]!, heap[at]!) ? left : at
        if (right < heap.length && before(heap[right]!, heap[first]!)) first = right
        if (first === at) break
        swap(heap, at, first)
        at = first
      }
    }
    this.nowMs = next.atMs
    next.happen()
    return true
  }
}

const before = (a: Event, b: Event) => a.atMs < b.atMs || (a.atMs === b.atMs && a.n < b.n)

function swap(heap: Event[], a: number, b: number) {
  const kept = heap[a]!
  heap[a] = heap[b]!
  heap[b] = kept
}

/** A seeded generator of 0 ≤ x < 1: mulberry32 (Tommy Ettinger, public domain). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
