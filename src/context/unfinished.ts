import type { Emit } from '../events.ts'
import { wakeHost } from '../io/host/client.ts'
import { type BuildRecord, ENDED } from '../jobs/records.ts'
import type { Project } from './project.ts'
import { connectServices, type Services } from './services.ts'

/** As long as the queue keeps a job (docs/design.md §6): an older record's message is gone, and nobody will ever end it. */
const KEPT_MS = 4 * 24 * 3600 * 1000

/** For a command that only reads: whoever sees builds that a killed host left has them completed, without waiting for it. */
export async function wakeFor(builds: readonly BuildRecord[], project: Project, emit: Emit): Promise<void> {
  // On AWS the fleet has them.
  if (project.aws) return
  const open = builds.filter(({ status, askedAt }) => !ENDED.has(status) && Date.now() - askedAt < KEPT_MS)
  if (open.length === 0 || process.env.BAKE_DEFAULT_WORKER === '0') return
  const { hostCommand } = await import('./services-host.ts')
  const text = 'no host process was running, and builds have not ended: started one to go on with them'
  if (await wakeHost({ stateDir: project.stateDir, root: project.dir, spawn: hostCommand() }))
    emit({ type: 'notice', level: 'info', text })
}

/** For a command that follows `build`: the services, held up for as long as it has not ended, or else nobody might ever work on it. */
export async function joinFor(
  build: BuildRecord,
  project: Project,
  emit: Emit,
  signal: AbortSignal,
): Promise<Pick<Services, 'lost'> & Disposable> {
  if (project.aws || ENDED.has(build.status)) return { lost: new AbortController().signal, [Symbol.dispose]() {} }
  return connectServices(project, 'client', emit, signal)
}
