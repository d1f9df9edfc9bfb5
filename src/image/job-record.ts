import { BakeError } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import { noteAsker } from '../jobs/askers.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { Verdict } from '../jobs/loop.ts'
import { type BuildRecord, ENDED, readBuild, writeBuild } from '../jobs/records.ts'
import { buildIdTime } from '../names.ts'
import { noteAsk } from './supersede.ts'
import type { ImageWorld } from './world.ts'

/** What a job and its record must agree on: a body that names somebody else's build must not end that one's record. */
const SUBJECT = ['repository', 'config', 'commit', 'image', 'key', 'branch', 'rebuild'] as const

/** The record of the job that this worker has. An end that somebody else wrote stays: a second delivery's, a cancellation's. */
export class JobRecord {
  readonly now: BuildRecord
  /** Its asker was let go while its build goes on for others: nothing is tagged for it, nothing tried again. */
  detached = false
  readonly #world: ImageWorld
  #noted: Promise<unknown> = Promise.resolve()

  private constructor(record: BuildRecord, world: ImageWorld) {
    this.now = record
    this.#world = world
  }

  /**
   * The asker's record, or one made from the job, which says all of it, when the asker died before it could write it or it is damaged.
   * Undefined: the job names a build that is another one's.
   */
  static async open(job: ImageJob, world: ImageWorld): Promise<JobRecord | undefined> {
    const known = await readBuild(world.ledger, job.build).catch(unlessDamaged)
    if (known) return SUBJECT.every((field) => known[field] === job[field]) ? new JobRecord(known, world) : undefined
    const { build, project, repository, config, commit, image, key, branch, priority, rebuild } = job
    const made = new JobRecord(
      {
        ...{ version: 1, build, project, repository, config, commit, image, key, branch, priority, rebuild },
        status: 'queued',
        askedAt: buildIdTime(build),
      },
      world,
    )
    // Mostly the asker is just about to do so itself: no claim waits for it.
    made.#noted = Promise.all([noteAsker(world.ledger, job), noteAsk(job, world)]).catch(() => {})
    return made
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

const unlessDamaged = (error: unknown): undefined => {
  if (!(error instanceof BakeError && error.code === 'ledger_damaged')) throw error
}
