import { messageOf } from '../../errors.ts'
import type { AheadCommit } from './protocol.ts'

/** A worker that runs inside the host. */
export interface HostWorker {
  /** It has a job. */
  busy(): boolean
  /** Takes no more jobs, settles when those it has are finished. */
  stop(): Promise<void>
  /** Ends its jobs at once; they stay on the queue. Without it the host ends without waiting. */
  kill?(): Promise<void>
  /** Settles when it ended, also by itself. */
  ended?: Promise<unknown>
  /** Fetches a commit before there is a job for it; tells of nothing. */
  ahead?(commit: AheadCommit): void
}

/** Between two starts of a worker that fails, so that a broken engine doesn't fill the log. */
const RETRY_MS = 5_000
/** A killed worker's children die with the host anyway. */
const KILL_TIMEOUT_MS = 2_000

/** Starts and drains the host's own worker, one change at a time, towards what was wanted last. */
export class WorkerKeeper {
  readonly #start: () => Promise<HostWorker>
  readonly #onProblem: (text: string) => void
  #wanted = false
  #worker: HostWorker | undefined
  #turning: Promise<void> | undefined
  #stopping = false
  #notBefore = 0
  /** For a worker that isn't there yet. */
  #ahead: AheadCommit | undefined

  constructor(start: () => Promise<HostWorker>, onProblem: (text: string) => void) {
    this.#start = start
    this.#onProblem = onProblem
  }

  /** `none`, `idle` or `busy`. */
  get state(): 'none' | 'idle' | 'busy' {
    if (this.#worker === undefined) return 'none'
    return this.#worker.busy() ? 'busy' : 'idle'
  }

  /** Call it again now and then: a start that failed is tried again. */
  want(wanted: boolean): void {
    this.#wanted = wanted
    this.#turning ??= this.#turn().finally(() => {
      this.#turning = undefined
    })
  }

  /** Told before a worker is wanted. */
  ahead(commit: AheadCommit): void {
    if (this.#worker) this.#worker.ahead?.(commit)
    else this.#ahead = commit
  }

  /** Settles when the worker has finished its jobs and ended. */
  async drain(): Promise<void> {
    do {
      this.want(false)
      await this.#turning
    } while (this.#worker !== undefined)
  }

  async kill(): Promise<void> {
    this.#wanted = false
    this.#stopping = true
    const patience = new Promise((resolve) => setTimeout(resolve, KILL_TIMEOUT_MS).unref())
    await Promise.race([this.#worker?.kill?.().catch(() => {}), patience])
  }

  async #turn(): Promise<void> {
    while (this.#wanted !== (this.#worker !== undefined)) {
      if (this.#worker !== undefined) await this.#stopOne(this.#worker)
      else if (performance.now() < this.#notBefore || !(await this.#startOne())) return
    }
  }

  async #startOne(): Promise<boolean> {
    try {
      const worker = await this.#start()
      this.#worker = worker
      if (this.#ahead) worker.ahead?.(this.#ahead)
      this.#ahead = undefined
      const gone = (problem: string) => {
        if (this.#worker !== worker || this.#stopping) return
        this.#worker = undefined
        this.#failed(problem)
      }
      worker.ended?.then(
        () => gone('it ended'),
        (error: unknown) => gone(messageOf(error)),
      )
      return true
    } catch (error) {
      this.#failed(messageOf(error))
      return false
    }
  }

  async #stopOne(worker: HostWorker): Promise<void> {
    this.#stopping = true
    await worker.stop().catch((error: unknown) => this.#onProblem(`the worker ended badly: ${messageOf(error)}`))
    this.#worker = undefined
    this.#stopping = false
  }

  #failed(problem: string): void {
    this.#notBefore = performance.now() + RETRY_MS
    this.#onProblem(`the worker of this machine failed and is started again in ${RETRY_MS / 1000} s: ${problem}`)
  }
}
