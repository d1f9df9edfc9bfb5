import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { Slots } from './slots.ts'

export interface IdleOptions {
  slots: readonly Slots[]
  /** How often it is looked whether nothing is done. */
  everyMs: number
  /** Ends soon when its signal is aborted. */
  work: (signal: AbortSignal) => Promise<void>
  onProblem: (text: string) => void
}

/** Until the signal: work for a worker that has nothing else to do, stopped at once when a job begins. Never throws; what goes wrong is told once until it goes well. */
export async function whileIdle({ slots, everyMs, work, onProblem }: IdleOptions, signal: AbortSignal): Promise<void> {
  let told: string | undefined
  while (!signal.aborted) {
    await sleep(everyMs, undefined, { signal, ref: false }).catch(() => {})
    if (signal.aborted || slots.some(({ free, count }) => free < count)) continue
    const over = new AbortController()
    const ends = AbortSignal.any([signal, over.signal])
    for (const each of slots) void each.whenTaken(ends).then(() => over.abort())
    try {
      await work(ends)
      told = undefined
    } catch (error) {
      const text = messageOf(error)
      if (!ends.aborted && text !== told) onProblem(text)
      told = text
    }
    over.abort()
  }
}
