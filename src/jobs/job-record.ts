import { BakeError } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ledger } from '../io/ledger.ts'
import type { Verdict } from './loop.ts'
import { type BuildRecord, ENDED, readBuild, writeBuild } from './records.ts'

export interface RecordWorld {
  ledger: Ledger
  /** The worker's name, for people. */
  worker: string
  /** Told whenever the record of a build that this worker has is another. `takenFrom`: the dead owner of the claim before the newest. */
  onRecord?(record: BuildRecord, takenFrom?: string): void
}

/** The record of the job that this worker has. An end that somebody else wrote stays: a second delivery's, a cancellation's. */
export class JobRecord {
  readonly now: BuildRecord
  /** Its asker was let go while its build goes on for others: nothing is tagged or released for it, nothing tried again. */
  detached = false
  readonly #world: RecordWorld
  readonly #noted: Promise<unknown>

  /** `noted`: what must be in the ledger before the record ends. */
  constructor(record: BuildRecord, world: RecordWorld, noted: Promise<unknown> = Promise.resolve()) {
    this.now = record
    this.#world = world
    this.#noted = noted
  }

  get ended(): boolean {
    return ENDED.has(this.now.status)
  }

  /** It waits for what a leader makes of the same key. */
  async waiting(leader: { build: string; claim: number }): Promise<void> {
    if (leader.build === this.now.build || (await this.#endedElsewhere())) return
    Object.assign(this.now, { status: 'waiting', leader })
    await this.#write()
  }

  /** It builds under claim `n`. A cancellation that is overwritten here is seen by who watches over the build. `takenFrom`: the owner whose claim it took over. */
  async running(n: number, takenFrom?: string): Promise<void> {
    Object.assign(this.now, {
      ...{ status: 'running', startedAt: Date.now(), worker: this.#world.worker, claim: n, leader: undefined },
    })
    await this.#write(takenFrom)
  }

  /** Handed back. */
  async queued(): Promise<void> {
    if (this.detached || (await this.#endedElsewhere())) return
    Object.assign(this.now, { status: 'queued' })
    await this.#write()
  }

  /** It is tried again after a failure that no log can tell. */
  async retried(retry: NonNullable<BuildRecord['retry']>): Promise<void> {
    if (this.detached || (await this.#endedElsewhere())) return
    Object.assign(this.now, { retry })
    await this.#write()
  }

  /** Its end, unless it has one; the message has nothing left to do. */
  async end(outcome: Partial<BuildRecord>): Promise<Verdict> {
    await this.#noted
    if (await this.#endedElsewhere()) return { do: 'remove' }
    const ended = { ...this.now, leader: undefined, retry: undefined, ...outcome, endedAt: Date.now() }
    await writeBuild(this.#world.ledger, ended)
    // Detached, its build still runs here.
    if (!this.detached) this.#world.onRecord?.(ended)
    await failpoint('recorded')
    return { do: 'remove' }
  }

  async #endedElsewhere(): Promise<boolean> {
    const current = await readBuild(this.#world.ledger, this.now.build).catch(unlessDamaged)
    return current !== undefined && ENDED.has(current.status)
  }

  async #write(takenFrom?: string): Promise<void> {
    await writeBuild(this.#world.ledger, this.now)
    this.#world.onRecord?.({ ...this.now }, takenFrom)
  }
}

/** A damaged record is written anew. */
export const unlessDamaged = (error: unknown): undefined => {
  if (!(error instanceof BakeError && error.code === 'ledger_damaged')) throw error
}
