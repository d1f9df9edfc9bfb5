import { BakeError, messageOf } from '../errors.ts'
import type { Message, Queue } from '../io/queue.ts'
import type { Ask } from './asks.ts'
import { type Answer, Polling } from './poll.ts'
import type { Slots } from './slots.ts'

export interface Receiving {
  queue: Pick<Queue, 'receive' | 'shards'>
  slots: Slots
  /** The worker's shards, most preferred first, asked for again and again: they change with the fleet's members. The only one unless told. */
  shards?: () => readonly number[]
  /** After this long at the latest it takes a message from another shard, if there is one. None: from no other. */
  stealAfterMs?: number | undefined
  visibilitySeconds: number
  /** Take one job, finish it, return. */
  once: boolean
  /** Told of each message as it comes; hands back what there is no slot for. */
  accept: (message: Message) => Promise<void>
  /** Told of receives that failed; onProblem unless there is one. */
  onQueueError?: (text: string) => void
  onProblem: (text: string) => void
}

/** Asks the queues as Polling says while there are free slots, until stopped; every poll has ended or was given up when it returns. */
export async function receiveUntil(stop: AbortSignal, options: Receiving): Promise<void> {
  const { queue, slots, stealAfterMs } = options
  const shards = options.shards ?? (() => [0])
  const tellError = options.onQueueError ?? ((text) => options.onProblem(`queue: ${text}`))
  const polling = new Polling({ shards: queue.shards, stealAfterMs, random: Math.random }, performance.now())
  const asked = new Set<Promise<void>>()
  const bell = new Bell()
  using _free = slots.onFree(() => bell.ring())
  const onStop = () => bell.ring()
  stop.addEventListener('abort', onStop, { once: true })

  const ask = async (each: Ask) => {
    const { lane, ...how } = each
    const { visibilitySeconds } = options
    const got = await queue.receive(lane, { ...how, visibilitySeconds, signal: stop }).catch((error: unknown) => {
      const code = error instanceof BakeError ? error.code : undefined
      // A queue beyond those that bake.yaml names is looked for, not missed; a role that names the queues exactly may not even look.
      const beyond = each.shard >= queue.shards && (code === 'queue_missing' || code === 'queue_denied')
      if (!stop.aborted && !beyond) tellError(messageOf(error))
      return beyond || code === 'queue_missing' ? ('missing' as const) : ('failed' as const)
    })
    const answer: Answer = typeof got === 'string' ? got : got.length
    polling.answered(each, answer, performance.now())
    bell.ring()
    if (typeof got !== 'string') await Promise.all(got.map((message) => options.accept(message)))
  }

  while (!stop.aborted) {
    const nowMs = performance.now()
    const free = options.once ? Math.min(1, slots.free) : slots.free
    for (const each of polling.next(nowMs, free, shards())) {
      const poll = ask(each).finally(() => asked.delete(poll))
      asked.add(poll)
    }
    await bell.wait(polling.dueMs(nowMs) - nowMs)
  }
  stop.removeEventListener('abort', onStop)
  await Promise.all(asked)
}

/** Wakes one sleeper; rung while nobody sleeps, it wakes the next one at once. */
class Bell {
  #rung = false
  #wake = () => {}

  ring(): void {
    this.#rung = true
    this.#wake()
  }

  /** `ms` may be Infinity. */
  async wait(ms: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = Number.isFinite(ms) ? setTimeout(resolve, Math.ceil(ms)) : undefined
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    this.#wake = () => {}
    this.#rung = false
  }
}
