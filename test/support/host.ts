import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ConnectOptions, connectHost, type HostConnection, stopHost } from '../../src/io/host/client.ts'
import { waitFor } from '../../src/wait.ts'

export const hostEntry = fileURLToPath(new URL('./host-entry.ts', import.meta.url))
export const hostClient = fileURLToPath(new URL('./host-client.ts', import.meta.url))

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export const gone = (pid: number, deadlineMs = 10_000) =>
  waitFor(() => (isAlive(pid) ? undefined : true), { what: `the end of process ${pid}`, deadlineMs, intervalMs: 20 })

export const kill9 = async (pid: number): Promise<void> => {
  process.kill(pid, 'SIGKILL')
  await gone(pid)
}

export interface HostProject extends AsyncDisposable {
  readonly root: string
  readonly stateDir: string
  options(overrides?: Partial<ConnectOptions> & { env?: NodeJS.ProcessEnv }): ConnectOptions
  connect(overrides?: Partial<ConnectOptions> & { env?: NodeJS.ProcessEnv }): Promise<HostConnection>
  /** What the host's worker noted so far. */
  notes(): Promise<string[]>
  noted(text: string): Promise<unknown>
}

/** A throw-away project whose host is test/support/host-entry.ts with a linger of half a second. Disposing fails when a host stays. */
export async function hostProject(environment: NodeJS.ProcessEnv = {}): Promise<HostProject> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'bake-host-')))
  const stateDir = join(root, '.bake')
  const connections: HostConnection[] = []
  const options: HostProject['options'] = ({ env = {}, ...overrides } = {}) => {
    const version = overrides.version ?? '1.0.0'
    const needsRegistry = overrides.needsRegistry ?? false
    return {
      stateDir,
      root,
      role: 'client',
      version,
      needsRegistry,
      spawn: {
        command: process.execPath,
        args: [hostEntry, stateDir, root, version, ...(needsRegistry ? ['registry'] : [])],
        env: { ...process.env, BAKE_HOST_LINGER_MS: '500', ...environment, ...env },
      },
      ...overrides,
    }
  }
  const notes = async () =>
    (await readFile(join(stateDir, 'worker.log'), 'utf8').catch(() => '')).split('\n').filter((line) => line !== '')
  return {
    root,
    stateDir,
    options,
    async connect(overrides) {
      const connection = await connectHost(options(overrides))
      connections.push(connection)
      return connection
    },
    notes,
    noted: (text) =>
      waitFor(async () => ((await notes()).includes(text) ? true : undefined), {
        what: `the worker's note ${text}`,
        deadlineMs: 10_000,
        intervalMs: 20,
      }),
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.close()
      await stopHost(stateDir)
      for (const { pid } of connections) await gone(pid)
      await rm(root, { recursive: true, force: true })
    },
  }
}
