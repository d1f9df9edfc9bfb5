import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { accessSync } from 'node:fs'
import { errnoOf, unavailable } from '../errors.ts'

export interface GitOptions {
  cwd?: string
  env: NodeJS.ProcessEnv
  signal?: AbortSignal | undefined
  /** A worker's git: dies with this process whatever ends it, gets no signals from the terminal, and creates files for everyone to read. */
  tied?: boolean
}

export interface GitResult {
  code: number
  stdout: Buffer
  stderr: string
}

/** From an aborted signal to SIGKILL: git removes its lock files on SIGTERM, which takes milliseconds. */
const KILL_AFTER_MS = 2_000
/** Only the end of a long stderr tells why. */
const STDERR_KEPT_CHARACTERS = 64 * 1024

/**
 * Runs git and gives what it answered, whatever its exit code. Throws git_missing or git_killed (world's), or the signal's reason once git and its
 * children are gone.
 */
export async function runGit(args: string[], options: GitOptions): Promise<GitResult> {
  options.signal?.throwIfAborted()
  const child = spawnGit(args, options, ['ignore', 'pipe', 'pipe'])
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    stderr = (stderr + chunk).slice(-STDERR_KEPT_CHARACTERS)
  })
  const { signal } = options
  let timer: NodeJS.Timeout | undefined
  const onAbort = () => {
    kill(child, 'SIGTERM', options.tied)
    timer = setTimeout(() => kill(child, 'SIGKILL', options.tied), KILL_AFTER_MS)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const [code, killedBy] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on('error', reject).on('close', (...ended) => resolve(ended))
    })
    signal?.throwIfAborted()
    if (code === null) throw unavailable('git_killed', `git ${args[0]} was ended by ${killedBy}`, { next: 'run it again' })
    if (code === SETPRIV_FOUND_NOTHING && options.tied) throw gitMissing()
    return { code, stdout: Buffer.concat(stdout), stderr }
  } catch (error) {
    throw errnoOf(error) === 'ENOENT' ? gitMissing(error) : error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

/** Starts git. `stdio[0]` may be a pipe; the caller listens to `error`. */
export function spawnGit(args: string[], options: GitOptions, stdio: StdioOptions): ChildProcess {
  const [command = 'git', ...before] = options.tied ? [...tie(), 'git'] : ['git']
  return spawn(command, [...before, ...args], { cwd: options.cwd, env: options.env, stdio, detached: options.tied ?? false })
}

export const gitMissing = (cause?: unknown) =>
  unavailable('git_missing', 'git is not installed, or not on PATH', {
    next: 'install git 2.29 or newer: apt-get install git',
    cause,
  })

/** setpriv(1) and sh(1): exit status when the program isn't there. */
const SETPRIV_FOUND_NOTHING = 127

/** The mask belongs to whoever started this process, and BuildKit sends modes: 022 makes every worker's files the same. */
function tie(): string[] {
  const masked = ['/bin/sh', '-c', 'umask 022 && exec "$@"', 'sh']
  return hasSetpriv() ? ['setpriv', '--pdeathsig', 'KILL', '--', ...masked] : masked
}

let setpriv: boolean | undefined
/** util-linux's; other systems have no parent-death signal, there git ends at its next write to us. */
function hasSetpriv(): boolean {
  if (setpriv !== undefined) return setpriv
  try {
    accessSync('/usr/bin/setpriv')
    setpriv = true
  } catch {
    setpriv = false
  }
  return setpriv
}

/** A tied git leads its own process group, which its transport helpers and filters are in. */
function kill(child: ChildProcess, signal: NodeJS.Signals, group = false): void {
  if (child.pid === undefined) return
  try {
    process.kill(group ? -child.pid : child.pid, signal)
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}
