import { setTimeout as sleep } from 'node:timers/promises'
import { unavailable } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'
import { followLog } from './logs.ts'
import { type BuildRecord, ENDED, readBuild } from './records.ts'

export interface FollowOptions {
  signal: AbortSignal
  pollMs: number
  onEvent: (event: StoryEvent) => void
  /** Awaited now and then, so that a flood of lines doesn't pile up before a slow reader. */
  settled: () => Promise<void>
}

const EVENTS_BETWEEN_PAUSES = 500

/**
 * Follows one build to its end: its own log or, while it waits for the same key's leader, the leader's. Throws the signal's reason when
 * aborted; the build goes on. Throws build_gone (exit 4) when its record isn't there any more.
 */
export async function followBuild(build: string, ledger: Ledger, options: FollowOptions): Promise<BuildRecord> {
  let prefix: string | undefined
  let stop = new AbortController()
  let reading: Promise<void> = Promise.resolve()
  let told: BuildRecord['status'] | undefined
  let retried: number | undefined
  try {
    for (;;) {
      options.signal.throwIfAborted()
      const record = await readBuild(ledger, build)
      if (!record) throw gone(build)
      if (record.status !== told) {
        // Queued again after it ran: its log says why.
        const again = record.status === 'queued' && record.claim !== undefined
        told = record.status
        if ((told === 'queued' && !again) || told === 'waiting') {
          options.onEvent({
            type: 'phase',
            phase: told,
            t: Date.now(),
            ...(record.leader ? { detail: `build ${record.leader.build} has the same inputs` } : {}),
          })
        }
      }
      if (record.retry && record.retry.t !== retried) {
        retried = record.retry.t
        options.onEvent({ type: 'retry', ...record.retry })
      }
      const log = logOf(record)
      if (log !== undefined && log !== prefix) {
        stop.abort()
        await reading
        prefix = log
        stop = new AbortController()
        reading = tell(ledger, log, stop.signal, options)
        // Thrown where it is awaited.
        reading.catch(() => {})
      }
      if (ENDED.has(record.status)) return record
      await sleep(options.pollMs, undefined, { signal: options.signal }).catch(() => {})
    }
  } finally {
    stop.abort()
    await reading
  }
}

const gone = (build: string) =>
  unavailable('build_gone', `build ${build} is not in the ledger any more: somebody deleted it, or the whole state directory`, {
    next: 'ask again: bake image',
    ids: { build },
  })

/** Where the story of a record is told now. */
export function logOf(record: BuildRecord): string | undefined {
  const where = record.leader ?? (record.claim === undefined ? undefined : { build: record.build, claim: record.claim })
  return where && keys.log(where.build, where.claim)
}

async function tell(ledger: Ledger, prefix: string, signal: AbortSignal, options: FollowOptions) {
  let told = 0
  for await (const event of followLog(ledger, prefix, { signal, pollMs: options.pollMs })) {
    options.onEvent(event)
    if (++told % EVENTS_BETWEEN_PAUSES === 0) await options.settled()
  }
}
