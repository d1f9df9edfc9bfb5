import type { Emit } from '../events.ts'
import { openCheckout, type Project } from './project.ts'
import { connectServices } from './services.ts'
import { runWorker, type WorkerRequest } from './worker.ts'

type Given = 'name' | 'slots' | 'bakes' | 'once' | 'drain' | 'abort' | 'drainMs' | 'listen' | 'tell' | 'onReady'

/** `bake worker`: a worker of its own beside the host, which then starts none. */
export async function runStandaloneWorker(project: Project, options: Pick<WorkerRequest, Given> & { emit: Emit }): Promise<void> {
  const repositories = await repositoriesOf(project)
  using services = await connectServices(project, 'worker', options.emit, options.drain)
  await runWorker({ ...options, project, services, repositories })
}

/** What the worker may build, and where it fetches that from: its own configuration says it, never a job. */
async function repositoriesOf(project: Project): Promise<Map<string, string>> {
  const others = project.config.worker.repositories.map((url): [string, string] => [url, url])
  const { repository } = project.config
  // A worker on AWS has a bake.yaml, but no checkout around it.
  if (project.aws && repository !== undefined) return new Map([[repository, repository], ...others])
  const { source, repository: own } = await openCheckout(project)
  return new Map([[own, source], ...others])
}
