import { randomInt } from 'node:crypto'
import { access, readFile, realpath } from 'node:fs/promises'
import { createServer } from 'node:net'
import { errnoOf, refused, unavailable } from '../../errors.ts'
import { portHolder } from './port-holder.ts'
import { type HostFiles, writeAtomic } from './state-dir.ts'

export interface Ports {
  queue: number
  registry: number
}

interface Recorded extends Ports {
  version: 1
  /** Real path of the state directory that these ports were chosen for: a copy of it chooses others. */
  stateDir: string
  /** The project that the directory belongs to. */
  root: string
}

/** Below the range that Linux gives to outgoing connections (32768 up), which could hold a port while the host is down. */
const FIRST_PORT = 20_000
const LAST_PORT = 29_999

/**
 * The ports of this state directory: chosen free the first time, then kept for ever, because image references contain the registry's.
 * Throws `state_dir_in_use` (refused) when the directory belongs to another project that is still there.
 */
export async function loadPorts(files: HostFiles, root: string): Promise<Ports> {
  const stateDir = await realpath(files.dir)
  const recorded = parsePorts(await readFile(files.ports, 'utf8').catch(() => ''))
  const copied = recorded !== undefined && recorded.stateDir !== stateDir && (await exists(recorded.stateDir))
  if (recorded !== undefined && !copied) {
    if (recorded.root !== root && (await exists(recorded.root))) throw stateDirInUse(files.dir, recorded.root)
    if (recorded.root !== root || recorded.stateDir !== stateDir) await save(files, { ...recorded, stateDir, root })
    return { queue: recorded.queue, registry: recorded.registry }
  }
  const queue = await freePort()
  let registry = await freePort()
  while (registry === queue) registry = await freePort()
  await save(files, { version: 1, stateDir, root, queue, registry })
  return { queue, registry }
}

export const stateDirInUse = (stateDir: string, owner: string) =>
  refused('state_dir_in_use', `the state directory ${stateDir} belongs to the project in ${owner}`, {
    ids: { state_dir: stateDir, project: owner },
    next: 'Set BAKE_STATE_DIR to a directory of its own for each project.',
  })

/** Throws `port_taken` when something listens on `port` already. */
export async function assertFree(port: number, what: string, files: HostFiles): Promise<void> {
  if (!(await isFree(port))) throw await portTaken(port, what, files)
}

export async function portTaken(port: number, what: string, files: HostFiles) {
  const holder = await portHolder(port)
  const by = holder ? `process ${holder.pid} (${holder.command.slice(0, 120)})` : 'another program'
  return unavailable('port_taken', `port ${port} of this project's ${what} is in use by ${by}`, {
    ids: { port: String(port), ...(holder && { pid: String(holder.pid) }) },
    next: `Stop it and run the command again. Or delete ${files.ports}: other ports are chosen, and references to localhost:${port} end.`,
  })
}

const save = (files: HostFiles, recorded: Recorded) => writeAtomic(files.ports, `${JSON.stringify(recorded, null, 2)}\n`)

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

/** Undefined for what no host wrote: it is chosen and written anew. */
function parsePorts(text: string): Recorded | undefined {
  try {
    const value = JSON.parse(text) as Partial<Recorded> | null
    const whole = [value?.queue, value?.registry].every((port) => Number.isInteger(port)) && value?.version === 1
    return whole && typeof value.root === 'string' && typeof value.stateDir === 'string' ? (value as Recorded) : undefined
  } catch {
    return undefined
  }
}

export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1)
    if (await isFree(port)) return port
  }
  throw unavailable('port_taken', `found no free port between ${FIRST_PORT} and ${LAST_PORT}`, {
    next: 'See with `ss -ltnp` what holds so many ports.',
  })
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error) => (errnoOf(error) === 'EADDRINUSE' ? resolve(false) : reject(error)))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
