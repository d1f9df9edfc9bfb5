import type { Ledger } from '../io/ledger.ts'
import type { Lane } from '../io/queue.ts'
import { buildIdTime, keys } from '../names.ts'
import { type BuildRecord, buildRecordSchema, ENDED } from './records.ts'

/** What the newest builds tell of a fleet. */
export interface Backlog {
  /** Not begun, oldest first, as far as was looked. */
  queued: BuildRecord[]
  /** Ended badly, newest first. */
  failures: BuildRecord[]
}

/** Always looked at: what failed lately is among these. */
const LEAST = 200
/** Where the oldest queued build of a long queue is searched no further: on S3 each is a request once. */
const MOST = 3_000
const READ_AT_ONCE = 128
/** As long as the queue keeps a message (docs/design.md §6): what is older and still queued has none. */
const KEPT_MS = 4 * 24 * 3600 * 1000
const FAILED_LATELY_MS = 24 * 3600 * 1000

/** Reads the newest builds' records again and again; one that has ended is read once. */
export class BacklogReader {
  readonly #ledger: Pick<Ledger, 'list' | 'get'>
  #ended = new Map<string, BuildRecord>()

  constructor(ledger: Pick<Ledger, 'list' | 'get'>) {
    this.#ledger = ledger
  }

  /** Looks from the newest build back, until `waiting` queued ones are found or there is no sense in going on. */
  async look(waiting: number): Promise<Backlog> {
    const names = await this.#ledger.list(keys.builds, { limit: MOST })
    const now = Date.now()
    const ended = new Map<string, BuildRecord>()
    const found: Backlog = { queued: [], failures: [] }
    for (let at = 0; at < names.length; at += READ_AT_ONCE) {
      const some = names.slice(at, at + READ_AT_ONCE).filter((name) => now - buildIdTime(idOf(name)) < KEPT_MS)
      const records = await Promise.all(some.map((name) => this.#read(name)))
      for (const record of records.filter((each) => each !== undefined)) {
        if (ENDED.has(record.status)) ended.set(record.build, record)
        if (record.status === 'queued') found.queued.unshift(record)
        if (record.status === 'failed' && now - (record.endedAt ?? 0) < FAILED_LATELY_MS) found.failures.push(record)
      }
      if (some.length === 0 || (at + READ_AT_ONCE >= LEAST && found.queued.length >= waiting)) break
    }
    this.#ended = ended
    found.failures.sort((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0))
    return found
  }

  async #read(name: string): Promise<BuildRecord | undefined> {
    const known = this.#ended.get(idOf(name))
    if (known !== undefined) return known
    const parsed = buildRecordSchema.safeParse(await this.#ledger.get(name).catch(() => undefined))
    return parsed.success ? parsed.data : undefined
  }
}

const idOf = (name: string): string => name.slice(keys.builds.length)

export const laneOf = ({ machine, priority }: BuildRecord): Lane =>
  machine ? 'machine' : priority === 'high' ? 'high' : 'normal'
