import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import type { Readable } from 'node:stream'

/** Between SIGTERM and SIGKILL: buildx needs about 0.1 s to tell the engine, and a worker's second signal must not take long. */
const GRACE_MS = 1000

export interface ChildOptions {
  cwd?: string
  /** The whole environment; this process's own unless told. */
  env?: NodeJS.ProcessEnv
  /** Written to the child's stdin, which is then closed; none: /dev/null. */
  stdin?: Uint8Array | string
  /** Its stdin stays open until it has ended or shall end: for one that can't be sent signals (sudo). */
  holdStdin?: boolean
  stdout?: 'pipe' | 'ignore' | 'inherit' | number
  stderr?: 'pipe' | 'ignore' | 'inherit' | number
  /** Aborted: the child's whole tree is ended. */
  signal?: AbortSignal | undefined
  graceMs?: number
  /** The mode bits that its files don't get, as umask(1) writes them; this process's own unless told. */
  umask?: string
  /** On Linux what it starts dies with this process too: for one that would go on without its starter. It gets no stdin. */
  group?: boolean
}

export interface ChildExit {
  code: number | null
  signal: NodeJS.Signals | null
  /** It could not be started (no such working directory, out of processes). */
  error?: Error
}

export interface Child extends AsyncDisposable {
  readonly pid: number
  /** Present when piped; a pipe that nobody reads stops the child. */
  readonly stdout: Readable | undefined
  readonly stderr: Readable | undefined
  /** Settles when the process has ended; what it wrote may still be unread. Never rejects. */
  readonly exited: Promise<ChildExit>
  /** SIGTERM to the tree, SIGKILL after the grace; settles with its end. */
  end(): Promise<ChildExit>
}

/**
 * Starts `command` (a path, or a name looked up in the environment's PATH) as the leader of a process group of its own. On Linux it dies with this
 * process, whatever signal that gets: `setpriv --pdeathsig` of util-linux sets prctl(2) PR_SET_PDEATHSIG. Disposing ends it.
 * Throws the signal's reason when aborted already, an ENOENT error when there is no such command.
 */
export function spawnChild(command: string, args: string[], options: ChildOptions = {}): Child {
  options.signal?.throwIfAborted()
  const env = options.env ?? process.env
  const path = which(command, env.PATH)
  if (path === undefined) throw Object.assign(new Error(`${command}: no such command`), { code: 'ENOENT', path: command })
  const [file, argv] = dyingWithParent(path, args, options)
  const child = spawn(file, argv, {
    cwd: options.cwd,
    env,
    detached: true,
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', options.stdout ?? 'ignore', options.stderr ?? 'ignore'],
  })
  // A child that ends without reading its stdin is told by its exit code.
  child.stdin?.on('error', () => {})
  if (options.holdStdin) child.stdin?.write(options.stdin ?? '')
  else child.stdin?.end(options.stdin)
  return watch(child, options)
}

function watch(child: ChildProcess, { signal, graceMs = GRACE_MS }: ChildOptions): Child {
  let ended: ChildExit | undefined
  let killing: NodeJS.Timeout | undefined
  const begin = () => {
    if (ended !== undefined || killing !== undefined) return
    child.stdin?.end()
    killGroup(child.pid, 'SIGTERM')
    killing = setTimeout(() => killGroup(child.pid, 'SIGKILL'), graceMs)
  }
  const exited = new Promise<ChildExit>((resolve) => {
    const settle = (exit: ChildExit) => {
      ended ??= exit
      child.stdin?.destroy()
      clearTimeout(killing)
      // The leader is gone; what it started must not outlive it.
      if (killing !== undefined) killGroup(child.pid, 'SIGKILL')
      signal?.removeEventListener('abort', begin)
      resolve(exit)
    }
    child.once('exit', (code, by) => settle({ code, signal: by }))
    child.once('error', (error) => settle({ code: null, signal: null, error }))
  })
  signal?.addEventListener('abort', begin, { once: true })
  const end = () => {
    begin()
    return exited
  }
  return {
    pid: child.pid ?? 0,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    exited,
    end,
    [Symbol.asyncDispose]: async () => void (await end()),
  }
}

/** Sends `signal` to every process of the group that `pid` leads; a group that is gone, or another user's, is no error. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  // kill(0) and kill(-1) mean "my own group" and "everything".
  if (pid === undefined || pid < 2) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'EPERM'))) throw error
  }
}

/** The absolute path of an executable: `command` itself when it has a slash, else the first in `path` (a PATH); undefined when there is none. */
export function which(command: string, path = process.env.PATH ?? ''): string | undefined {
  if (command.includes('/')) return isExecutable(command) ? command : undefined
  return path
    .split(delimiter)
    .filter(isAbsolute)
    .map((dir) => join(dir, command))
    .find(isExecutable)
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/**
 * The parent that counts is the thread that spawns: don't spawn from worker threads. A parent that died before prctl(2) sends nothing, so the child looks
 * whose it is once the signal is armed. Without setpriv (macOS) the pid file is what is left.
 */
function dyingWithParent(path: string, args: string[], { umask, group = false }: ChildOptions): [string, string[]] {
  const setpriv = process.platform === 'linux' ? which('setpriv', '/usr/bin:/bin:/usr/local/bin') : undefined
  const run = group ? LEAD : 'exec "$@"'
  const become = umask === undefined ? run : `umask ${umask} && ${run}`
  if (setpriv !== undefined) {
    const unlessOrphaned = `[ "$PPID" = "$0" ] && ${become}`
    const signal = group ? 'USR1' : 'KILL'
    return [setpriv, ['--pdeathsig', signal, '--', '/bin/sh', '-c', unlessOrphaned, String(process.pid), path, ...args]]
  }
  return umask === undefined ? [path, args] : ['/bin/sh', ['-c', `umask ${umask} && exec "$@"`, 'sh', path, ...args]]
}

/** Leads the group: on the parent's death all of it is killed; else it ends as its one child does. SIGTERM, which all of the group get, is the child's affair. */
const LEAD = `{
trap 'kill -KILL 0' USR1
trap : TERM
"$@" &
while :; do
  code=0
  wait $! || code=$?
  kill -0 $! 2>/dev/null || break
done
trap - TERM
[ "$code" -le 128 ] || kill -$((code - 128)) $$
exit "$code"
}`
