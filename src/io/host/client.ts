import { realpath } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { timedOut } from '../../errors.ts'
import { type Dialled, dial, readInfo } from './dial.ts'
import { type AheadCommit, fromWire, type Hello, type HostInfo, type Role } from './protocol.ts'
import type { SpawnCommand, SpawnedHost } from './spawn.ts'
import { hostFiles, prepareStateDir } from './state-dir.ts'

export { hostStatus, stopHost } from './status.ts'

export interface ConnectOptions {
  stateDir: string
  /** The project's root directory. */
  root: string
  role: Role
  /** bake's version: a host of another one is replaced when it is idle, else refuses. */
  version: string
  /** How to start `bake host`. */
  spawn: SpawnCommand
  needsRegistry: boolean
  /** What the host's own worker needs of this process's environment: see handover.ts. */
  variables?: Record<string, string>
  /** Fetched by the host's own worker meanwhile. */
  ahead?: AheadCommit
  /** How long to wait for a host to be ready; 20 s unless told. */
  deadlineMs?: number
  signal?: AbortSignal
  /** What the host tells while connected, and why connecting takes long. */
  onNotice?: (text: string) => void
}

export interface HostConnection {
  readonly pid: number
  /** `http://127.0.0.1:PORT` of the queue. */
  readonly queueEndpoint: string
  /** `localhost:PORT`, when the host has a registry. */
  readonly registry?: string
  /** Called once if the connection ends without close(): the host died or was ended. Connect again. */
  onLost(callback: () => void): void
  /** Leaves the host. */
  close(): void
}

/** A cold start takes 0.3 s, with the registry's container some seconds. */
const DEADLINE_MS = 20_000
const POLL_MS = 15
/** Between two spawns that found the lock taken: its holder is starting or ending. */
const RESPAWN_MS = 200
const SLOW_MS = 3_000

/**
 * Finds the host of a state directory or starts one, and stays connected, so that it stays up; the connection alone keeps this process from ending no
 * longer. Throws state_dir_in_use (refused); host_version, host_failed, disk_full and whatever kept the host from starting (exit 4); host_timed_out (exit 5).
 */
export async function connectHost(options: ConnectOptions): Promise<HostConnection> {
  const { stateDir, signal, deadlineMs = DEADLINE_MS } = options
  let files = hostFiles(stateDir)
  let spawned: SpawnedHost | undefined
  let nextSpawnAt = 0
  let slowAt = performance.now() + SLOW_MS
  const deadline = performance.now() + deadlineMs
  for (;;) {
    signal?.throwIfAborted()
    const info = await readInfo(files)
    const dialled = info && (await dial(info, await helloTo(info, options), signal))
    if (dialled?.answer.type === 'welcome') return connection(dialled, options)
    if (dialled?.answer.type === 'refused') {
      dialled.socket.destroy()
      throw fromWire(dialled.answer.error)
    }
    if (dialled) await endOf(dialled, deadline, signal)

    if (spawned?.exit) {
      const { spawnFailure } = await import('./spawn.ts')
      const failure = await spawnFailure(spawned, files)
      if (failure) throw failure
      spawned = undefined
    }
    const now = performance.now()
    if (now > deadline) throw await hostTimedOut(options, info)
    if (now > slowAt) {
      options.onNotice?.(`still waiting for the host process of this project (log: ${files.log})`)
      slowAt = Number.POSITIVE_INFINITY
    }
    if (!spawned && now >= nextSpawnAt) {
      // Not on the fast path: loads node:child_process.
      const { spawnHost } = await import('./spawn.ts')
      files = await prepareStateDir(stateDir)
      spawned = await spawnHost(options.spawn, options.root, files)
      nextSpawnAt = performance.now() + RESPAWN_MS
    }
    await sleep(POLL_MS, undefined, { signal })
  }
}

/** Starts a host unless one is there, and doesn't wait for it: jobs that a killed one left go on, with its own worker. False: one was there. */
export async function wakeHost({ stateDir, root, spawn }: Pick<ConnectOptions, 'stateDir' | 'root' | 'spawn'>): Promise<boolean> {
  if (await readInfo(hostFiles(stateDir))) return false
  const { spawnHost } = await import('./spawn.ts')
  await spawnHost(spawn, root, await prepareStateDir(stateDir))
  return true
}

async function helloTo(info: HostInfo, options: ConnectOptions): Promise<Hello> {
  const { role, version, needsRegistry, variables = {}, ahead } = options
  const root = await realpath(options.root)
  const hello = { type: 'hello', token: info.token, role, pid: process.pid, version, root, needsRegistry, variables } as const
  return ahead ? { ...hello, ahead } : hello
}

/** A host that is ending closes its connections when everything of it is free again. */
async function endOf({ socket, closed }: Dialled, deadline: number, signal: AbortSignal | undefined): Promise<void> {
  const timer = AbortSignal.timeout(Math.max(0, Math.ceil(deadline - performance.now())))
  const stop = AbortSignal.any(signal ? [timer, signal] : [timer])
  await Promise.race([closed, new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))])
  socket.destroy()
}

function connection(dialled: Dialled, { onNotice }: ConnectOptions): HostConnection {
  const { socket, answer, closed } = dialled
  if (answer.type !== 'welcome') throw new TypeError('not welcome')
  let left = false
  dialled.onMessage((message) => {
    if (message.type === 'notice') onNotice?.(message.text)
  })
  socket.unref()
  return {
    pid: answer.pid,
    queueEndpoint: answer.queueEndpoint,
    ...(answer.registry !== undefined && { registry: answer.registry }),
    onLost(callback) {
      closed.then(() => {
        if (!left) callback()
      })
    },
    close() {
      left = true
      socket.destroy()
    },
  }
}

async function hostTimedOut({ stateDir, deadlineMs = DEADLINE_MS }: ConnectOptions, info: HostInfo | undefined) {
  const { lastLines } = await import('./spawn.ts')
  const files = hostFiles(stateDir)
  const who = info
    ? `the host process ${info.pid} of this project does not answer`
    : 'the host process of this project is not ready'
  return timedOut(
    'host_timed_out',
    `${who} after ${Math.round(deadlineMs / 1000)} s; its log ${files.log} ends${(await lastLines(files)) || ' empty'}`,
    {
      ids: { log: files.log, ...(info && { pid: String(info.pid) }) },
      next: info ? `If it hangs, end it (kill -9 ${info.pid}): no job is lost.` : 'Run the command again.',
    },
  )
}
