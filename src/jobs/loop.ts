import { messageOf } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Message, Queue } from '../io/queue.ts'
import { Held, type Journal } from './held.ts'
import { type Job, parseBody } from './job.ts'
import { type Receiving, receiveUntil } from './receive.ts'
import type { Slot } from './slots.ts'

/** What becomes of a message when its handler ends. */
export type Verdict = { do: 'remove' } | { do: 'release'; inSeconds: number } | { do: 'bury'; reason: string }

/** A job's hold on a slot: given up while it waits for another's claim, taken again to build. */
export interface Place {
  slot(signal: AbortSignal): Promise<Slot>
  /** Gives the slot up to wait without one. False: too many wait already, hand the message back. */
  wait(): boolean
}

export interface Tools {
  place: Place
  /** Aborted by the second signal: kill the build, hand the job back. */
  abort: AbortSignal
  /** Aborted by the first: finish what runs, wait for nothing. */
  drain: AbortSignal
  receives: number
}

/** What one loop takes: a kind without a handler isn't for this queue. */
export type Handlers = { [K in Job['kind']]?: (job: Extract<Job, { kind: K }>, tools: Tools) => Promise<Verdict> }

export interface LoopOptions extends Omit<Receiving, 'accept'> {
  queue: Queue
  journal: Journal
  handlers: Handlers
  drain: AbortSignal
  abort: AbortSignal
  /** How it asks its queues; as images' loops do unless told. */
  receive?: (stop: AbortSignal, options: Receiving) => Promise<void>
  /** With `once`: aborted by the first job. Loops of one worker share it. */
  finished?: AbortController
}

/** Waiters cost a renewal and a poll each; beyond this many a message goes back to the queue. */
const MAX_WAITERS = 64
const WAITER_RETRY_SECONDS = 5
/** A body from a newer bake is left for a newer worker this long before it goes to the dead letters (docs/design.md §6: a day). */
const UNKNOWN_JOB_MS = 24 * 3600 * 1000

/** Receives while there are free slots, high lane first, until drained; returns when everything it took has ended. */
export async function receiveLoop(options: LoopOptions): Promise<void> {
  const { queue, slots, drain } = options
  const running = new Set<Promise<void>>()
  const counters = { waiting: 0 }
  const finished = options.finished ?? new AbortController()
  const stop = AbortSignal.any([drain, options.abort, finished.signal])

  const accept = async (message: Message): Promise<void> => {
    const slot = stop.aborted ? undefined : slots.tryTake()
    if (!slot) return queue.renew(message, 0).catch(() => {})
    if (options.once) finished.abort()
    const work = handleMessage(message, slot, options, counters)
      .catch((error) => options.onProblem(`message ${message.id}: ${messageOf(error)}`))
      .finally(() => running.delete(work))
    running.add(work)
  }
  await (options.receive ?? receiveUntil)(stop, { ...options, accept })
  while (running.size > 0) await Promise.all(running)
}

async function handleMessage(message: Message, first: Slot, options: LoopOptions, counters: { waiting: number }): Promise<void> {
  let slot: Slot | undefined = first
  let waiting = false
  const place: Place = {
    async slot(signal) {
      slot ??= await options.slots.take(signal)
      if (waiting) counters.waiting--
      waiting = false
      return slot
    },
    wait() {
      if (waiting) return true
      if (counters.waiting >= MAX_WAITERS) return false
      counters.waiting++
      waiting = true
      slot?.release()
      slot = undefined
      return true
    },
  }
  const held = new Held(options.queue, message, options.journal, options.visibilitySeconds, (error) =>
    options.onProblem(`renewing message ${message.id}: ${messageOf(error)}`),
  )
  try {
    await options.journal.add(message)
    await failpoint('received')
    const verdict = await dispatch(
      message,
      { place, abort: options.abort, drain: options.drain, receives: message.receives },
      options,
    )
    if (verdict.do === 'remove') await held.remove()
    else if (verdict.do === 'bury') await held.bury(verdict.reason)
    else await held.release(verdict.inSeconds)
    await failpoint('settled')
  } catch (error) {
    await held.release(WAITER_RETRY_SECONDS)
    throw error
  } finally {
    slot?.release()
    if (waiting) counters.waiting--
  }
}

async function dispatch(message: Message, tools: Tools, options: LoopOptions): Promise<Verdict> {
  const parsed = parseBody(message.body)
  if (parsed.status === 'invalid') {
    options.onProblem(`message ${message.id} is no job (${parsed.reason}): sent to the dead letters`)
    return { do: 'bury', reason: parsed.reason }
  }
  if (parsed.status === 'unknown-kind') return leave(message, `job kind ${parsed.kind}, newer than this worker`, options)
  if (parsed.status === 'unknown-version') return leave(message, `job version ${parsed.version}, newer than this worker`, options)
  const { job } = parsed
  const { image, machine } = options.handlers
  if (job.kind === 'image' && image) return image(job, tools)
  if (job.kind === 'machine' && machine) return machine(job, tools)
  return leave(message, `job kind ${job.kind}, which isn't for queue ${message.lane}`, options)
}

/** Somebody else may know what to do with it, for a day. */
function leave(message: Message, what: string, { onProblem }: LoopOptions): Verdict {
  const old = Date.now() - message.sentAtMs > UNKNOWN_JOB_MS
  onProblem(`message ${message.id} has ${what}: ${old ? 'sent to the dead letters' : 'left alone'}`)
  return old ? { do: 'bury', reason: what } : { do: 'release', inSeconds: 60 }
}
