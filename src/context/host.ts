import { runHost } from '../io/host/process.ts'
import { problemOf } from '../jobs/worker-events.ts'
import { packageVersion } from '../package-root.ts'
import { openCheckout, type Project } from './project.ts'
import { targetsOf } from './services.ts'
import { openLocalQueue } from './services-host.ts'
import { runWorker } from './worker.ts'

/** The body of the hidden command `bake host`: queue, registry and a default worker in one process (docs/design.md §10). */
export async function runProjectHost(project: Project): Promise<void> {
  const { source, repository } = await openCheckout(project)
  await runHost({
    stateDir: project.stateDir,
    root: project.dir,
    version: packageVersion(),
    needsRegistry: project.config.registry === undefined,
    async startWorker({ queueEndpoint, registry }) {
      const drain = new AbortController()
      const abort = new AbortController()
      let busy = () => false
      const fetching = Promise.withResolvers<(repository: string, commit: string) => Promise<void>>()
      const ended = runWorker({
        project,
        repositories: new Map([[repository, source]]),
        services: {
          ...targetsOf(project, registry),
          queue: () => openLocalQueue(queueEndpoint),
        },
        once: false,
        drain: drain.signal,
        abort: abort.signal,
        tell: (event) => {
          const text = problemOf(event)
          if (text !== undefined) process.stderr.write(`${new Date().toISOString()} worker: ${text}\n`)
        },
        onSlots: (slots) => {
          busy = () => slots.busy > 0
        },
        onFetch: fetching.resolve,
      })
      return {
        busy: () => busy(),
        ended,
        // What is wrong with it the job tells.
        ahead: ({ repository, commit }) => void fetching.promise.then((fetch) => fetch(repository, commit)).catch(() => {}),
        stop: async () => {
          drain.abort()
          await ended
        },
        kill: async () => {
          drain.abort()
          abort.abort()
          await ended
        },
      }
    },
  })
}
