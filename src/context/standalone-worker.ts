import type { Emit } from '../events.ts'
import { openCheckout, type Project } from './project.ts'
import { connectServices } from './services.ts'
import { runWorker, type WorkerOptions } from './worker.ts'

type Given = 'name' | 'slots' | 'once' | 'drain' | 'abort' | 'onProblem' | 'onReady'

/** `bake worker`: a worker of its own beside the host, which then starts none. */
export async function runStandaloneWorker(project: Project, options: Pick<WorkerOptions, Given> & { emit: Emit }): Promise<void> {
  const { checkout, repository } = await openCheckout(project)
  using services = await connectServices(project, 'worker', options.emit, options.drain)
  await runWorker({ ...options, project, services, repositories: new Map([[repository, checkout.root]]) })
}
