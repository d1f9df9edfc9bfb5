import { errnoOf } from '../../errors.ts'
import { loadPorts, portTaken } from './ports.ts'
import { type QueueServer, startQueueServer } from './queue-server.ts'
import { type RunningRegistry, startRegistry } from './registry.ts'
import { type HostFiles, stateDirError } from './state-dir.ts'

/** Queue and registry of one state directory. */
export interface HostServices extends AsyncDisposable {
  readonly queue: QueueServer
  readonly queueEndpoint: string
  /** `localhost:PORT` once it runs. */
  registry(): string | undefined
  /** Starts the registry if it doesn't run yet. */
  needRegistry(): Promise<void>
}

/** Starts the queue, and the registry when it is needed, both at a time. Throws port_taken, disk_full, state_dir_denied, state_dir_in_use, registry_*. */
export async function startServices(options: {
  files: HostFiles
  root: string
  needsRegistry: boolean
  onProblem: (text: string) => void
}): Promise<HostServices> {
  const { files, onProblem } = options
  await using undo = new AsyncDisposableStack()
  const ports = await loadPorts(files, options.root)
  let starting: Promise<RunningRegistry> | undefined
  let registry: string | undefined
  const needRegistry = async () => {
    starting ??= startRegistry({ files, port: ports.registry, onProblem })
    try {
      await starting
      registry = `localhost:${ports.registry}`
    } catch (error) {
      starting = undefined
      throw error
    }
  }
  undo.defer(() => starting?.then((running) => running.stop()).catch(() => {}))
  const [queue] = await Promise.all([
    startQueueServer({ port: ports.queue, dataDir: files.queueDir })
      .catch(async (error: unknown) => {
        throw errnoOf(error) === 'EADDRINUSE' ? await portTaken(ports.queue, 'queue', files) : stateDirError(error, files.dir)
      })
      .then((server) => {
        undo.defer(() => server.stop())
        return server
      }),
    options.needsRegistry && needRegistry(),
  ])
  const running = undo.move()
  return {
    queue,
    queueEndpoint: `http://127.0.0.1:${queue.port}`,
    registry: () => registry,
    needRegistry,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}
