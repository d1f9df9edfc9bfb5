import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Queue } from '../../src/io/queue.ts'
import { Journal } from '../../src/jobs/held.ts'
import { formatBody, type ImageJob } from '../../src/jobs/job.ts'
import { type LoopOptions, receiveLoop } from '../../src/jobs/loop.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { newBuildId } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'

/** A receive loop with a handler that only takes time. */
export interface StartedLoop {
  /** Images in the order in which their jobs began, and ended. */
  readonly taken: string[]
  readonly ended: string[]
  readonly problems: string[]
  /** The most at a time. */
  readonly most: number
  readonly waiting: number
  readonly refusedToWait: number
  readonly drain: AbortController
  /** Settles when the loop has returned. */
  readonly done: Promise<void>
  stop(): Promise<void>
}

export interface LoopSettings {
  queue: Queue
  /** For the journal. */
  dir: string
  slots?: number
  /** How long a job takes. */
  ms?: number
  once?: boolean
  shards?: () => readonly number[]
  stealAfterMs?: number
  finished?: AbortController
  receive?: LoopOptions['receive']
  /** Jobs of these images wait without a slot until the loop is stopped. */
  waits?: (image: string) => boolean
}

export function startLoop(settings: LoopSettings): StartedLoop {
  const { queue, dir, slots = 1, ms = 0, once = false, shards, stealAfterMs, finished, receive, waits = () => false } = settings
  const drain = new AbortController()
  const abort = new AbortController()
  let busy = 0
  const state = { taken: [] as string[], ended: [] as string[], problems: [] as string[], most: 0, waiting: 0, refusedToWait: 0 }
  const done = receiveLoop({
    queue,
    slots: new Slots(slots),
    ...(shards && { shards }),
    ...(finished && { finished }),
    ...(receive && { receive }),
    stealAfterMs,
    journal: new Journal(join(dir, `held-${randomUUID()}`)),
    visibilitySeconds: 30,
    drain: drain.signal,
    abort: abort.signal,
    once,
    onProblem: (text) => state.problems.push(text),
    handlers: {
      async image(job: ImageJob, tools) {
        if (waits(job.image)) {
          if (!tools.place.wait()) {
            state.refusedToWait++
            return { do: 'release', inSeconds: 30 }
          }
          state.waiting++
          await sleep(60_000, undefined, { signal: AbortSignal.any([tools.abort, tools.drain]) }).catch(() => {})
          return { do: 'release', inSeconds: 0 }
        }
        state.taken.push(job.image)
        state.most = Math.max(state.most, ++busy)
        await sleep(ms)
        busy--
        state.ended.push(job.image)
        return { do: 'remove' }
      },
    },
  })
  return Object.assign(state, {
    drain,
    done,
    async stop() {
      abort.abort()
      await done
    },
  })
}

export const testJob = (image: string): string =>
  formatBody({
    version: 1,
    kind: 'image',
    build: newBuildId(),
    project: 'loop',
    repository: 'https://git.example.org/loop.git',
    config: 'bake.yaml',
    commit: 'a'.repeat(40),
    image,
    key: 'b'.repeat(64),
    pins: [],
    priority: 'normal',
    rebuild: false,
  })

/** Waits for a condition, generously: the machine may be busy. */
export const until = (condition: () => boolean | Promise<boolean>) =>
  waitFor(async () => ((await condition()) ? true : undefined), { what: 'a loop', deadlineMs: 60_000, intervalMs: 5 })
