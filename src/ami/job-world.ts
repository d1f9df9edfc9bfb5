import type { MachineJob } from '../jobs/job.ts'
import type { RecordWorld } from '../jobs/job-record.ts'
import type { Bake } from './bake.ts'
import type { MachineLog } from './bake-log.ts'
import type { BakeWorld } from './world.ts'

/** What a worker that bakes gives to a machine job: wired in context. */
export interface MachineJobWorld extends RecordWorld {
  /** How often cancellations and logs are looked at. */
  pollMs: number
  /** Milliseconds after which a bake that still runs is ended. */
  timeoutMs: number
  /** Told, in a sentence, of what went wrong without failing a bake. */
  onProblem(text: string): void
  /** `notify:` of what has ended, after whoever asked knows; `job`: the id of one that failed although no run of it says so. Never throws. */
  announce?(ended: { bake: Bake } | { error: unknown } | { job: string }): Promise<void>
  /**
   * Brings the job's commit here, and what baking it takes: all of it is told to `log`. Throws repository_not_allowed (exit 2) for one that this worker
   * doesn't build.
   */
  open(job: MachineJob, run: { log: MachineLog; signal: AbortSignal }): Promise<BakeWorld & AsyncDisposable>
}
