import type { Emit } from '../events.ts'
import { endCancelled, liveAskers, requestCancel } from '../jobs/askers.ts'
import { findBuild } from '../jobs/history.ts'
import { type BuildRecord, ENDED, readBuild } from '../jobs/records.ts'
import { waitFor } from '../wait.ts'
import type { Project } from './project.ts'
import { connectServices } from './services.ts'
import { whoami } from './whoami.ts'

/** Time for the worker that has a build to stop it and write its end. Then the record is ended from here: nobody has its message, or a dead or paused worker. */
const GRACE_MS = 4_000
/** Between two looks at a ledger across a network. */
const LOOK_MS = 100

export interface Cancelled {
  build: string
  status: BuildRecord['status']
  /** `stopped`: nobody asks for it any more. `detached`: its asker has let go, and the build goes on for `others`. `ended`: it had ended already. */
  outcome: 'stopped' | 'detached' | 'ended'
  /** Builds that still ask for the same image key. */
  others: string[]
  /** Builds that --force cancelled with it. */
  forced: string[]
}

/** `bake cancel`: lets go of each build and waits until its record says so, five seconds at most. With `force` everybody else who asks for the same image key is let go of too. */
export async function cancelBuilds(
  project: Project,
  ids: string[],
  { force, emit, signal }: { force: boolean; emit: Emit; signal: AbortSignal },
): Promise<Cancelled[]> {
  const { ledger } = project
  const records = await Promise.all(ids.map((id) => findBuild(ledger, id)))
  // One that was let go of before may still be built for others.
  const open = records.filter(({ status }) => !ENDED.has(status) || (force && status === 'cancelled'))
  if (open.length === 0) return records.map((record) => ended(record))
  const by = whoami()
  await Promise.all(open.map(({ build }) => requestCancel(ledger, build, { by })))
  const forced = new Map<string, string[]>()
  for (const { build, key } of force ? open : []) {
    const others = await liveAskers(ledger, key, build)
    await Promise.all(others.map((other) => requestCancel(ledger, other, { by, forcedBy: build })))
    forced.set(build, others)
  }
  // Somebody should have the queue, to take the messages off it.
  using _services = await connectServices(project, 'client', emit, signal)
  const wait = (build: string) => untilEnded(build, project, signal)
  return await Promise.all(
    records.map(async (record): Promise<Cancelled> => {
      if (!open.includes(record)) return ended(record)
      const { build, key } = record
      const [now] = await Promise.all([wait(build), ...(forced.get(build) ?? []).map(wait)])
      const status = now?.status ?? record.status
      if (status !== 'cancelled') return { ...ended(record), status }
      const others = await liveAskers(ledger, key, build)
      return { build, status, outcome: others.length > 0 ? 'detached' : 'stopped', others, forced: forced.get(build) ?? [] }
    }),
  )
}

const ended = ({ build, status }: BuildRecord): Cancelled => ({ build, status, outcome: 'ended', others: [], forced: [] })

async function untilEnded(build: string, { ledger, pollMs }: Project, signal: AbortSignal): Promise<BuildRecord | undefined> {
  const probe = async () => {
    const now = await readBuild(ledger, build)
    return now && ENDED.has(now.status) ? now : undefined
  }
  const patience = { what: `build ${build} to end`, deadlineMs: GRACE_MS, intervalMs: Math.min(LOOK_MS, pollMs), signal }
  return waitFor(probe, patience).catch((error: unknown) => {
    if (signal.aborted) throw error
    return endCancelled(ledger, build)
  })
}
