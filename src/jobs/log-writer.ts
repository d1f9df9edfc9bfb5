import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError, messageOf } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'
import { type Chunk, LogBuffer } from './log-buffer.ts'
import type { RedactedStream, Redactor } from './redact.ts'

/** A first event waits this long for company, so that a follower sees life at once. */
const FIRST_FLUSH_MS = 20
const FLUSH_MS = 250
const MAX_CHUNK_BYTES = 1024 * 1024
/** More than this and `write` asks its caller to wait. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024
const RETRY_FIRST_MS = 50
const RETRY_LAST_MS = 2_000
/** A ledger that is away for longer costs log lines, not the build. */
const GIVE_UP_MS = 10_000

export interface LogWriterOptions {
  redact: Redactor
  /** Time between two chunks of a quiet log; on S3 about 1,000. */
  flushMs?: number
  /** Size at which a chunk is stored at once. One event larger than this is a chunk of its own. */
  maxChunkBytes?: number
  /** How long one chunk is tried before its events are given up. */
  giveUpMs?: number
}

/**
 * The only writer of the log `prefix`. Events are redacted, kept in order and stored chunk by chunk. Nothing here ever throws: a chunk that can't be stored
 * within `giveUpMs` is left out, the log says how many events are missing where they were, and `incomplete` says why.
 */
export class LogWriter implements AsyncDisposable {
  readonly #ledger: Ledger
  readonly #prefix: string
  readonly #options: Required<LogWriterOptions>
  readonly #redacted: RedactedStream
  readonly #waiting: LogBuffer
  #next = 0
  /** Monotonic ms. */
  #lastFlush = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #drained: PromiseWithResolvers<void> | undefined
  #closed: Promise<void> | undefined
  #lost = 0
  #lostSinceNote = 0
  #failure: unknown

  constructor(ledger: Ledger, prefix: string, options: LogWriterOptions) {
    this.#ledger = ledger
    this.#prefix = prefix
    this.#options = { flushMs: FLUSH_MS, maxChunkBytes: MAX_CHUNK_BYTES, giveUpMs: GIVE_UP_MS, ...options }
    this.#waiting = new LogBuffer(this.#options.maxChunkBytes)
    this.#redacted = options.redact.stream()
  }

  /** Bytes that are not in the ledger yet. */
  get waitingBytes(): number {
    return this.#waiting.bytes
  }

  /** Why the log lacks events, a sentence; undefined as long as it lacks none. Final once `close` has resolved. */
  get incomplete(): string | undefined {
    if (this.#failure === undefined) return undefined
    return `the log in the ledger lacks ${this.#lost} ${this.#lost === 1 ? 'entry' : 'entries'}: ${messageOf(this.#failure)}`
  }

  /** Adds an event. Returns a promise when several MiB wait: who awaits it before the next write keeps memory bounded. Ignored after `close`. */
  write(event: StoryEvent): void | Promise<void> {
    if (this.#closed !== undefined) return
    this.#add(this.#redacted.event(event))
    this.#schedule()
    if (this.#waiting.bytes <= MAX_WAITING_BYTES) return
    this.#drained ??= Promise.withResolvers()
    return this.#drained.promise
  }

  /** Stores what waits and the end marker. Never rejects; see `incomplete`. */
  close(): Promise<void> {
    this.#closed ??= this.#finish()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #finish(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#running
    for (const event of this.#redacted.end()) this.#add(event)
    this.#add({ type: 'end' })
    await this.#flush(() => !this.#waiting.empty)
  }

  #add(event: StoryEvent | { type: 'end' }): void {
    this.#waiting.add(`${JSON.stringify(event)}\n`)
  }

  #schedule(): void {
    if (this.#running !== undefined) return
    const full = this.#waiting.hasFull
    if (this.#timer !== undefined && !full) return
    clearTimeout(this.#timer)
    const now = performance.now()
    const due = Math.max(this.#lastFlush + this.#options.flushMs, now + FIRST_FLUSH_MS)
    this.#timer = setTimeout(() => this.#run(), full ? 0 : due - now)
  }

  #run(): void {
    this.#timer = undefined
    this.#running = this.#flush(() => this.#waiting.hasFull).finally(() => {
      this.#running = undefined
      if (!this.#waiting.empty && this.#closed === undefined) this.#schedule()
    })
  }

  /** Stores one chunk, then others while `more`. One call at a time. */
  async #flush(more: () => boolean): Promise<void> {
    do {
      this.#lastFlush = performance.now()
      const chunk = this.#waiting.take()
      if (chunk === undefined) return
      await this.#store(chunk)
      this.#waiting.release(chunk)
      if (this.#waiting.bytes > MAX_WAITING_BYTES / 2) continue
      this.#drained?.resolve()
      this.#drained = undefined
    } while (more())
  }

  async #store(chunk: Chunk): Promise<void> {
    const gap = this.#gap()
    if (await this.#append(gap === '' ? chunk.bytes : Buffer.concat([Buffer.from(gap), chunk.bytes]))) {
      this.#lostSinceNote = 0
      return
    }
    this.#lost += chunk.lines
    this.#lostSinceNote += chunk.lines
  }

  /** A note in place of what was given up before. */
  #gap(): string {
    if (this.#lostSinceNote === 0) return ''
    const code = this.#failure instanceof BakeError ? this.#failure.code : 'an unexpected error'
    const text = `${this.#lostSinceNote} log entries are missing here: the ledger could not take them (${code})`
    return `${JSON.stringify({ type: 'note', t: Date.now(), level: 'warning', text } satisfies StoryEvent)}\n`
  }

  /** Tries until it is stored or time is up; after a chunk that was given up, once. The number is used again then: a chunk may have a gap, the numbers none. */
  async #append(bytes: Uint8Array): Promise<boolean> {
    const giveUpAt = performance.now() + (this.#lostSinceNote > 0 ? 0 : this.#options.giveUpMs)
    for (let pauseMs = RETRY_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, RETRY_LAST_MS)) {
      try {
        await this.#ledger.append(this.#prefix, this.#next, bytes)
        this.#next++
        return true
      } catch (error) {
        const leftMs = giveUpAt - performance.now()
        if (leftMs <= 0) {
          this.#failure = error
          return false
        }
        await sleep(Math.min(pauseMs, leftMs))
      }
    }
  }
}
