import { setTimeout as sleep } from 'node:timers/promises'
import type { StoryEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'

export interface FollowOptions {
  /** Aborted: one more read of what is there, then the end. */
  signal: AbortSignal
  /** Time between two looks for the next chunk; longer while the log is quiet. */
  pollMs: number
  /** The first chunk to read; 0 unless told. */
  from?: number
}

/** A look costs a following process some tenths of a millisecond, of the processors that build: the longer a log was quiet, the longer until the next one. */
const LOOKS_PER_QUIET = 20
const SLOWER = 5

/** What the log `prefix` holds now: up to its end marker or its last chunk. Damaged lines are skipped and noted. Throws what the ledger throws. */
export async function* readLog(ledger: Ledger, prefix: string): AsyncGenerator<StoryEvent> {
  yield* chunks(ledger, prefix, 0, async () => false)
}

/** The log `prefix` as it grows, one `chunk` call per poll, until its end marker or the signal. Damaged lines are skipped and noted. Throws what the ledger throws. */
export async function* followLog(ledger: Ledger, prefix: string, options: FollowOptions): AsyncGenerator<StoryEvent> {
  const { signal, pollMs } = options
  let stopping = false
  yield* chunks(ledger, prefix, options.from ?? 0, async (quietMs) => {
    if (stopping) return false
    const pauseMs = Math.min(Math.max(pollMs, quietMs / LOOKS_PER_QUIET), pollMs * SLOWER)
    // An abort may have come after the read that found nothing: look once more.
    if (!signal.aborted) await sleep(pauseMs, undefined, { signal }).catch(() => {})
    stopping = signal.aborted
    return true
  })
}

/** Reads chunk by chunk; where there is none, since `quietMs`, `again` says whether to look once more. */
async function* chunks(
  ledger: Ledger,
  prefix: string,
  from: number,
  again: (quietMs: number) => Promise<boolean>,
): AsyncGenerator<StoryEvent> {
  const state = { t: Date.now(), damaged: 0, ended: false }
  let lastMs = performance.now()
  for (let n = from; ; ) {
    const bytes = await ledger.chunk(prefix, n)
    if (bytes === undefined) {
      if (await again(performance.now() - lastMs)) continue
      return
    }
    lastMs = performance.now()
    yield* events(bytes, `chunk ${n} of ${prefix}`, state)
    if (state.ended) return
    n++
  }
}

interface State {
  /** Time of the last event, for notes of ours. */
  t: number
  /** Damaged lines that no note told of yet. */
  damaged: number
  ended: boolean
}

function* events(bytes: Uint8Array, where: string, state: State): Generator<StoryEvent> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  // The writer stores no empty chunk: this one lost its bytes in a crash.
  if (text === '') state.damaged++
  for (let at = 0; at < text.length && !state.ended; ) {
    const newline = text.indexOf('\n', at)
    const end = newline === -1 ? text.length : newline
    const event = parse(text.slice(at, end))
    at = end + 1
    if (event === undefined) {
      state.damaged++
      continue
    }
    if (state.damaged > 0) yield damage(where, state)
    if (event.type === 'end') state.ended = true
    else {
      state.t = event.t
      yield event
    }
  }
  if (state.damaged > 0) yield damage(where, state)
}

function damage(where: string, state: State): StoryEvent {
  const text = `${state.damaged} damaged log ${state.damaged === 1 ? 'entry is' : 'entries are'} left out (${where})`
  state.damaged = 0
  return { type: 'note', t: state.t, level: 'warning', text }
}

/** One line of a log, undefined when it is damaged. Types that a newer bake writes pass: who renders them skips what it doesn't know. */
function parse(line: string): StoryEvent | { type: 'end' } | undefined {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value !== 'object' || value === null || !('type' in value) || typeof value.type !== 'string') return undefined
    return value.type === 'end' || ('t' in value && typeof value.t === 'number') ? (value as StoryEvent) : undefined
  } catch {
    return undefined
  }
}
