import type { Emit } from '../events.ts'
import { connectHost, type HostConnection } from '../io/host/client.ts'
import { variablesToHand } from '../io/host/handover.ts'
import type { Queue } from '../io/queue.ts'
import type { Reference } from '../io/registry.ts'
import { tags } from '../names.ts'
import { packageFile, packageVersion } from '../package-root.ts'
import { parseReference } from '../reference.ts'
import type { Project } from './project.ts'

/** The services of one machine, reached through its host process, which is started when nobody has it running. */
export interface Services extends Disposable {
  readonly pid: number
  queue(): Promise<Queue>
  target(image: string): Reference
  cache(image: string, branch: string): string
}

const CACHE_REPOSITORY = 'bake-cache'

/** Connects, and connects again for as long as it isn't disposed: a host that was killed is replaced, and its jobs go on. */
export async function connectServices(
  project: Project,
  root: string,
  role: 'client' | 'worker',
  emit: Emit,
  signal?: AbortSignal,
): Promise<Services> {
  const version = packageVersion()
  let disposed = false
  const connect = async (): Promise<HostConnection> => {
    const connection = await connectHost({
      stateDir: project.stateDir,
      root,
      role,
      version,
      spawn: { command: process.execPath, args: [...process.execArgv, hostEntry(), 'host'] },
      needsRegistry: project.config.registry === undefined,
      variables: variablesToHand(process.env, process.cwd()),
      ...(signal ? { signal } : {}),
      onNotice: (text) => emit({ type: 'notice', level: 'info', text }),
    })
    connection.onLost(() => {
      if (disposed) return
      emit({ type: 'notice', level: 'warning', text: 'the host process is gone; starting another' })
      connect().then(
        (next) => {
          current = next
        },
        (error: unknown) =>
          emit({ type: 'notice', level: 'warning', text: error instanceof Error ? error.message : String(error) }),
      )
    })
    return connection
  }
  let current = await connect()
  return {
    get pid() {
      return current.pid
    },
    async queue() {
      const { SqsQueue } = await import('../io/queue-sqs.ts')
      return SqsQueue.open({ endpoint: current.queueEndpoint, region: 'us-east-1', prefix: 'bake' })
    },
    ...targetsOf(project, current.registry),
    [Symbol.dispose]() {
      disposed = true
      current.close()
    },
  }
}

/** Where images and their caches go: the configured registry, else the host's own under the project's name. */
export function targetsOf(project: Project, hostRegistry: string | undefined): Pick<Services, 'target' | 'cache'> {
  const base = parseReference(`${project.config.registry ?? `${hostRegistry}/${project.config.project}`}/x`)
  const path = base.path.slice(0, -'/x'.length)
  return {
    target: (image) => ({ host: base.host, path: `${path}/${image}` }),
    cache: (image, branch) => `${base.host}/${path}/${CACHE_REPOSITORY}:${tags.cache(image, branch)}`,
  }
}

/** The CLI's own entry, so that a host is started by the same code: bin/run.js of what is compiled, bin/dev.js of a running source tree. */
const hostEntry = (): string => packageFile(import.meta.url.endsWith('.ts') ? 'bin/dev.js' : 'bin/run.js')
