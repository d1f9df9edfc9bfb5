import { messageOf } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'
import { type WorkerDocument, workerDocumentSchema } from './records.ts'

/** Changes of one moment are one write: on S3 a worker writes twice per build, about 40 PUTs an hour at 20 builds an hour. */
const DEBOUNCE_MS = 1_000
/** Nothing changed: written all the same, for the disk's numbers and so that a bucket's lifecycle rule never finds it old. */
const AGAIN_MS = 10 * 60_000

/** Keeps a worker's own document in the ledger as it is. Never throws: a worker whose document can't be written still works. */
export class Member implements AsyncDisposable {
  readonly #ledger: Ledger
  readonly #document: () => WorkerDocument
  readonly #onProblem: (text: string) => void
  readonly #again: NodeJS.Timeout
  #soon: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #troubled = false
  #closed = false

  /** `document` is called for each write. */
  constructor(ledger: Ledger, document: () => WorkerDocument, onProblem: (text: string) => void) {
    this.#ledger = ledger
    this.#document = document
    this.#onProblem = onProblem
    this.#again = setInterval(() => void this.flush(), AGAIN_MS).unref()
    void this.flush()
  }

  /** Something changed: written within a second. */
  changed(): void {
    if (this.#closed) return
    this.#soon ??= setTimeout(() => void this.flush(), DEBOUNCE_MS).unref()
  }

  /** Writes it now; one write at a time, so that an older one never comes last. */
  flush(): Promise<void> {
    clearTimeout(this.#soon)
    this.#soon = undefined
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  /** The last write: call it while the worker's beat still goes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    clearInterval(this.#again)
    await this.flush()
  }

  async #write(): Promise<void> {
    const document = this.#document()
    try {
      await this.#ledger.put(keys.worker(document.name), document)
      this.#troubled = false
    } catch (error) {
      // Once per outage; the next change tries again.
      if (!this.#troubled) this.#onProblem(`what this worker does can't be told to the ledger: ${messageOf(error)}`)
      this.#troubled = true
    }
  }
}

export interface MemberSeen {
  document: WorkerDocument
  /** It beats, and has not ended. */
  alive: boolean
  /** Milliseconds since its last beat, by the ledger's clock; undefined when there is none any more. */
  beatAgeMs: number | undefined
}

/** Who is gone is looked at again this seldom: on a group that scales, most documents are of instances that are no more. */
const GONE_LOOK_MS = 60_000

/**
 * The fleet's members as their documents and beats tell. One list call, and a read and an age per member, each time; on S3 at 20 workers and
 * four times a minute that is about half a cent an hour for each looker.
 */
export class Members {
  readonly #ledger: Pick<Ledger, 'list' | 'get' | 'age'>
  readonly #gone = new Map<string, { seen: MemberSeen; atMs: number }>()

  readonly #goneLookMs: number

  constructor(ledger: Pick<Ledger, 'list' | 'get' | 'age'>, { goneLookMs = GONE_LOOK_MS } = {}) {
    this.#ledger = ledger
    this.#goneLookMs = goneLookMs
  }

  /** Every member with a readable document, by name. Throws what the ledger throws. */
  async look(): Promise<MemberSeen[]> {
    const found = await this.#ledger.list(keys.workers)
    const seen = await Promise.all(found.map((at) => this.#lookAt(at)))
    return seen.filter((member) => member !== undefined)
  }

  /** Those that are alive. */
  async live(): Promise<WorkerDocument[]> {
    return (await this.look()).filter(({ alive }) => alive).map(({ document }) => document)
  }

  async #lookAt(at: string): Promise<MemberSeen | undefined> {
    const known = this.#gone.get(at)
    if (known && performance.now() - known.atMs < this.#goneLookMs) return known.seen
    const parsed = workerDocumentSchema.safeParse(await this.#ledger.get(at).catch(() => undefined))
    if (!parsed.success) return undefined
    const document = parsed.data
    const beatAgeMs = await this.#ledger.age(keys.beat(document.owner))
    // Graves are not looked at: who buries an incarnation is the next one of the same name, and its document comes with it.
    const alive = document.state !== 'ended' && beatAgeMs !== undefined && beatAgeMs < document.leaseMs
    const seen = { document, alive, beatAgeMs }
    if (alive) this.#gone.delete(at)
    else this.#gone.set(at, { seen, atMs: performance.now() })
    return seen
  }
}
