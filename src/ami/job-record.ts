import { noteAsker } from '../jobs/askers.ts'
import type { MachineJob } from '../jobs/job.ts'
import { JobRecord, type RecordWorld, unlessDamaged } from '../jobs/job-record.ts'
import { type BuildRecord, readBuild } from '../jobs/records.ts'
import { buildIdTime } from '../names.ts'

/** What a release's machine images are called in stories and records. */
export const machineName = (variant: number): string => (variant === 0 ? 'machine' : `machine-${variant + 1}`)

/** What a bake that was just asked for is recorded as. */
export function recordOf(job: MachineJob): BuildRecord {
  const { build, project, repository, config, commit, release, variant, inputs, since, by } = job
  return {
    ...{ version: 1, build, project, repository, config, commit, image: machineName(variant), key: inputs },
    ...{ priority: 'normal', rebuild: since !== undefined, status: 'queued', askedAt: buildIdTime(build) },
    machine: { release, variant, by, runs: [] },
  }
}

/** The asker's record, or one made from the job when it has none. Undefined: the job names a build that is another one's. */
export async function openRecord(job: MachineJob, world: RecordWorld): Promise<JobRecord | undefined> {
  const known = await readBuild(world.ledger, job.build).catch(unlessDamaged)
  if (known) return agree(known, job) ? new JobRecord(known, world) : undefined
  const noted = noteAsker(world.ledger, { key: job.inputs, build: job.build }).catch(() => {})
  return new JobRecord(recordOf(job), world, noted)
}

/** A body that names somebody else's build must not end that one's record. */
function agree(record: BuildRecord, job: MachineJob): boolean {
  const { machine, key, commit, repository, config } = record
  const same = key === job.inputs && commit === job.commit && repository === job.repository && config === job.config
  return same && machine?.release === job.release && machine.variant === job.variant
}
