import { spawn } from 'node:child_process'
import { open, readFile, statfs } from 'node:fs/promises'
import { type BakeError, unavailable } from '../../errors.ts'
import { fromWire, type WireError } from './protocol.ts'
import { rotate } from './registry.ts'
import { tailOf } from './registry-probe.ts'
import { type HostFiles, stateDirError } from './state-dir.ts'

export interface SpawnCommand {
  command: string
  args: string[]
  /** The host's whole environment; this process's own unless told. */
  env?: NodeJS.ProcessEnv
}

export interface SpawnedHost {
  readonly pid: number
  /** How it ended; undefined while it runs. 0: another host has the directory. */
  exit: { code: number | null; signal: string | null; error?: Error } | undefined
  readonly spawnedAtMs: number
}

/** A host that could not write its error has found the disk like this. */
const FULL_BYTES = 64 * 1024
const LOG_LINES = 12

/** Starts a host in a session of its own: it survives this process, its terminal and its Ctrl-C. Its output goes to host.log. */
export async function spawnHost({ command, args, env }: SpawnCommand, root: string, files: HostFiles): Promise<SpawnedHost> {
  await rotate(files.log)
  const log = await open(files.log, 'a', 0o600).catch((error: unknown) => {
    throw stateDirError(error, files.dir)
  })
  const spawnedAtMs = Date.now()
  try {
    const child = spawn(command, args, { cwd: root, detached: true, stdio: ['ignore', log.fd, log.fd], env: env ?? process.env })
    const spawned: SpawnedHost = { pid: child.pid ?? 0, exit: undefined, spawnedAtMs }
    child.once('exit', (code, signal) => {
      spawned.exit = { code, signal }
    })
    child.once('error', (error) => {
      spawned.exit = { code: null, signal: null, error }
    })
    child.unref()
    return spawned
  } finally {
    await log.close()
  }
}

/** Why a spawned host ended before it was ready: its own error if it could write it, else the end of its log. Undefined when another host was there first. */
export async function spawnFailure(spawned: SpawnedHost, files: HostFiles): Promise<BakeError | undefined> {
  const { exit } = spawned
  if (exit === undefined || exit.code === 0) return undefined
  const text = await readFile(files.error, 'utf8').catch(() => '')
  try {
    const written = JSON.parse(text) as { pid: number; atMs: number; error: WireError }
    // A launcher in between has another pid.
    if (written.pid === spawned.pid || written.atMs >= spawned.spawnedAtMs) return fromWire(written.error)
  } catch {
    // None, or half of one.
  }
  const space = await statfs(files.dir).catch(() => undefined)
  if (space && space.bavail * space.bsize < FULL_BYTES)
    return unavailable('disk_full', `no space left for ${files.dir}`, {
      ids: { state_dir: files.dir },
      next: 'Free some disk space, or set BAKE_STATE_DIR to a directory on a larger disk.',
    })
  const how = exit.error?.message ?? (exit.signal ? `killed by ${exit.signal}` : `exit ${exit.code}`)
  return unavailable(
    'host_failed',
    `the host process of this project ended before it was ready (${how})${await lastLines(files)}`,
    {
      ids: { log: files.log },
      next: `See ${files.log}.`,
    },
  )
}

/** The end of host.log, to be put behind a sentence; '' when it is empty. */
export async function lastLines(files: HostFiles): Promise<string> {
  const lines = (await tailOf(files.log)).trim().split('\n').slice(-LOG_LINES).join('\n')
  return lines && `:\n${lines}`
}
