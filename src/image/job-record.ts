import { noteAsker } from '../jobs/askers.ts'
import type { ImageJob } from '../jobs/job.ts'
import { JobRecord, unlessDamaged } from '../jobs/job-record.ts'
import { readBuild } from '../jobs/records.ts'
import { buildIdTime } from '../names.ts'
import { noteAsk } from './supersede.ts'
import type { ImageWorld } from './world.ts'

/** What a job and its record must agree on: a body that names somebody else's build must not end that one's record. */
const SUBJECT = ['repository', 'config', 'commit', 'image', 'key', 'branch', 'rebuild'] as const

/**
 * The asker's record, or one made from the job, which says all of it, when the asker died before it could write it or it is damaged.
 * Undefined: the job names a build that is another one's.
 */
export async function openRecord(job: ImageJob, world: ImageWorld): Promise<JobRecord | undefined> {
  const known = await readBuild(world.ledger, job.build).catch(unlessDamaged)
  if (known)
    return !known.machine && SUBJECT.every((field) => known[field] === job[field]) ? new JobRecord(known, world) : undefined
  const { build, project, repository, config, commit, image, key, branch, priority, rebuild } = job
  // Mostly the asker is just about to do so itself: no claim waits for it.
  const noted = Promise.all([noteAsker(world.ledger, job), noteAsk(job, world)]).catch(() => {})
  return new JobRecord(
    {
      ...{ version: 1, build, project, repository, config, commit, image, key, branch, priority, rebuild },
      status: 'queued',
      askedAt: buildIdTime(build),
    },
    world,
    noted,
  )
}
