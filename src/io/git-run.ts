import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { errnoOf, unavailable } from '../errors.ts'
import { spawnChild } from './child.ts'
import { forgetChild, recordChild } from './child-record.ts'

export interface GitOptions {
  cwd?: string
  env: NodeJS.ProcessEnv
  signal?: AbortSignal | undefined
  /** A worker's git: dies with this process whatever ends it, gets no signals from the terminal, and creates files for everyone to read. */
  tied?: boolean
  /** A file that names a tied git while it runs: `killRecorded` of it is the way to know that nothing writes any more. */
  record?: string
}

export interface GitResult {
  code: number
  stdout: Buffer
  stderr: string
}

/**
 * Runs git and gives what it answered, whatever its exit code. Throws git_missing or git_killed (world's), or the signal's reason once git and its
 * children are gone.
 */
export async function runGit(args: string[], options: GitOptions): Promise<GitResult> {
  options.signal?.throwIfAborted()
  try {
    const { stdout, stderr, ended } = options.tied ? startTied(args, options) : startPlain(args, options)
    const [answer, story, { code, signal }] = await Promise.all([stdout, stderr, ended])
    options.signal?.throwIfAborted()
    if (code === null) throw unavailable('git_killed', `git ${args[0]} was ended by ${signal}`, { next: 'run it again' })
    return { code, stdout: answer, stderr: story }
  } catch (error) {
    options.signal?.throwIfAborted()
    throw errnoOf(error) === 'ENOENT' ? gitMissing(error) : error
  }
}

/** Starts a git that ends with its stdin or its answer. A worker's gets no signals from the terminal: it is needed while the worker drains. */
export function spawnGit(args: string[], options: GitOptions, stdio: StdioOptions): ChildProcess {
  const { cwd, env, signal, tied: detached } = options
  return spawn('git', args, { cwd, env, signal, stdio, detached })
}

export const gitMissing = (cause?: unknown) =>
  unavailable('git_missing', 'git is not installed, or not on PATH', {
    next: 'install git 2.29 or newer: apt-get install git',
    cause,
  })

interface Started {
  stdout: Promise<Buffer>
  stderr: Promise<string>
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

function startPlain(args: string[], options: GitOptions): Started {
  const child = spawnGit(args, options, ['ignore', 'pipe', 'pipe'])
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }))
  return { stdout: buffer(child.stdout as Readable), stderr: text(child.stderr as Readable), ended }
}

/** The mask belongs to whoever started this process, and BuildKit sends modes: 022 makes every worker's files the same. */
function startTied(args: string[], { cwd, env, signal, record }: GitOptions): Started {
  const where = cwd === undefined ? {} : { cwd }
  const child = spawnChild('git', args, { ...where, env, signal, stdout: 'pipe', stderr: 'pipe', umask: '022' })
  if (record !== undefined) recordChild(record, child.pid)
  const ended = child.exited.then((exit) => {
    if (record !== undefined) forgetChild(record)
    if (exit.error !== undefined) throw exit.error
    return exit
  })
  return { stdout: buffer(child.stdout as Readable), stderr: text(child.stderr as Readable), ended }
}
