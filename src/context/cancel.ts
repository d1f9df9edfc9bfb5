import type { Emit } from '../events.ts'
import { findBuild, requestCancel } from '../jobs/history.ts'
import { type BuildRecord, ENDED, readBuild } from '../jobs/records.ts'
import { waitFor } from '../wait.ts'
import type { Project } from './project.ts'
import { connectServices } from './services.ts'

/** A worker that has the build stops it within 5 s; one that must be started first needs a little longer. */
const DEADLINE_MS = 20_000

/** `bake cancel`: asks for each build to be stopped and waits until its record says so. */
export async function cancelBuilds(
  project: Project,
  ids: string[],
  { emit, signal }: { emit: Emit; signal: AbortSignal },
): Promise<{ build: string; status: BuildRecord['status']; stopped: boolean }[]> {
  const records = await Promise.all(ids.map((id) => findBuild(project.ledger, id)))
  const open = records.filter((record) => !ENDED.has(record.status))
  await Promise.all(open.map((record) => requestCancel(project.ledger, record)))
  if (open.length === 0) return records.map(({ build, status }) => ({ build, status, stopped: false }))
  // Somebody must have the queue to take the message off it.
  using _services = await connectServices(project, 'client', emit, signal)
  return Promise.all(
    records.map(async (record) => {
      const ended = await waitFor(
        async () => {
          const now = await readBuild(project.ledger, record.build)
          return now && ENDED.has(now.status) ? now : undefined
        },
        { what: `build ${record.build} to stop`, deadlineMs: DEADLINE_MS, intervalMs: project.pollMs, signal },
      )
      return { build: record.build, status: ended.status, stopped: ended.status === 'cancelled' && !ENDED.has(record.status) }
    }),
  )
}
