import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError, messageOf } from '../errors.ts'
import type { Emit } from '../events.ts'
import { connectHost, type HostConnection } from '../io/host/client.ts'
import { variablesToHand } from '../io/host/handover.ts'
import type { AheadCommit } from '../io/host/protocol.ts'
import type { Queue } from '../io/queue.ts'
import { localSender } from '../io/queue-sender.ts'
import { packageFile, packageVersion } from '../package-root.ts'
import type { Project } from './project.ts'
import { type Services, targetsOf } from './services.ts'

/** Between a worker's tries to have a host again. */
const RECONNECT_MS = 2_000

/** Connects, and connects again for as long as it isn't disposed: a host that was killed is replaced, and its jobs go on. */
export async function connectHostServices(
  project: Project,
  role: 'client' | 'worker',
  emit: Emit,
  signal?: AbortSignal,
  ahead?: AheadCommit,
): Promise<Services> {
  const version = packageVersion()
  const lost = new AbortController()
  let disposed = false
  const warn = (text: string) => emit({ type: 'notice', level: 'warning', text })
  const connect = async (): Promise<HostConnection> => {
    const connection = await connectHost({
      stateDir: project.stateDir,
      // bake.yaml's directory: a repository may hold several projects, and the host finds its own from there.
      root: project.dir,
      role,
      version,
      spawn: hostCommand(),
      needsRegistry: project.config.registry === undefined,
      variables: variablesToHand(process.env, process.cwd()),
      ...(signal ? { signal } : {}),
      ...(ahead ? { ahead } : {}),
      onNotice: (text) => emit({ type: 'notice', level: 'info', text }),
    })
    connection.onLost(() => {
      if (!disposed) void reconnect()
    })
    return connection
  }
  const reconnect = async (): Promise<void> => {
    warn('the host process is gone; starting another')
    while (!disposed) {
      try {
        current = await connect()
        if (disposed) current.close()
        return
      } catch (error) {
        if (disposed || signal?.aborted) return
        if (role === 'client') return lost.abort(noOtherHost(error))
        warn(messageOf(error))
        await sleep(RECONNECT_MS, undefined, { ref: false })
      }
    }
  }
  let current = await connect()
  return {
    lost: lost.signal,
    sender: localSender(() => current.queueEndpoint, LOCAL.prefix),
    async queue() {
      return openLocalQueue(current.queueEndpoint)
    },
    ...targetsOf(project, current.registry),
    [Symbol.dispose]() {
      disposed = true
      current.close()
    },
  }
}

function noOtherHost(error: unknown): unknown {
  if (!(error instanceof BakeError)) return error
  const { kind, exit, code, message, next, ids } = error
  const details = { ids, cause: error, ...(next === undefined ? {} : { next }) }
  return new BakeError(kind, exit, code, `the host process is gone, and no other can be started: ${message}`, details)
}

/** Of the host's own queues (io/host/queue-server.ts makes them). */
const LOCAL = { region: 'us-east-1', prefix: 'bake' }

/** The host's queue for a worker. */
export async function openLocalQueue(endpoint: string): Promise<Queue> {
  const { SqsQueue } = await import('../io/queue-sqs.ts')
  return SqsQueue.open({ endpoint, ...LOCAL })
}

/** How to start a host with this very code: bin/run.js of what is compiled, bin/dev.js of a running source tree. */
export const hostCommand = () => {
  const { BAKE_CONFIG } = process.env
  // The host works in the project's directory, not in this one.
  const env = BAKE_CONFIG ? { env: { ...process.env, BAKE_CONFIG: resolve(BAKE_CONFIG) } } : {}
  return { command: process.execPath, args: [...process.execArgv, hostEntry(), 'host'], ...env }
}

const hostEntry = (): string => packageFile(import.meta.url.endsWith('.ts') ? 'bin/dev.js' : 'bin/run.js')
