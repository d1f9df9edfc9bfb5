import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const fromRoot = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
/** Straight from src: no build to forget. */
const DEV = fromRoot('bin/dev.js')
/** What is shipped; needs `npm run build` first. */
const BUILT = fromRoot('bin/run.js')

export interface BakeOptions {
  cwd?: string
  /** Added to the test's own environment, from which BAKE_* and what forces or forbids colours is taken out first; undefined takes out. */
  env?: Record<string, string | undefined>
  /** stdin; empty unless given. */
  input?: string
  /** bin/run.js in place of bin/dev.js; also with BAKE_TEST_BUILT=1 in the test's environment. */
  built?: boolean
  /** Another entry point, absolute. */
  entry?: string
  /** Put before node and its arguments: `nsenter`, `unshare`. */
  prefix?: string[]
}

export interface BakeResult {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunningBake extends AsyncDisposable {
  readonly child: ChildProcess
  readonly pid: number
  /** Complete lines so far. */
  lines(stream: 'stdout' | 'stderr'): string[]
  /** Resolves with the first line, old or new, that matches; rejects when the process ends without one or after `ms` (30 s). */
  waitFor(stream: 'stdout' | 'stderr', pattern: RegExp, ms?: number): Promise<string>
  kill(signal?: NodeJS.Signals): void
  /** Resolves when the process has ended and both streams are read. */
  wait(): Promise<BakeResult>
}

/** Runs `bake <args>` to its end. */
export const runBake = (args: readonly string[], options: BakeOptions = {}): Promise<BakeResult> =>
  startBake(args, options).wait()

/** Starts `bake <args>`; `await using` kills what still runs at the end of the test. */
export function startBake(args: readonly string[], options: BakeOptions = {}): RunningBake {
  const built = options.built ?? process.env.BAKE_TEST_BUILT === '1'
  const entry = options.entry ?? (built ? BUILT : DEV)
  const [command = '', ...argv] = [
    ...(options.prefix ?? []),
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    entry,
    ...args,
  ]
  const child = spawn(command, argv, {
    cwd: options.cwd,
    env: environment(options.env),
    stdio: 'pipe',
  })
  const text = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (data) => (text.stdout += data))
  child.stderr.setEncoding('utf8').on('data', (data) => (text.stderr += data))
  child.stdin.on('error', () => {}).end(options.input ?? '')
  const ended = once(child, 'close').then(([code, signal]): BakeResult => ({ code, signal, ...text }))
  ended.catch(() => {})
  const lines = (stream: 'stdout' | 'stderr') => text[stream].split('\n').slice(0, -1)
  return {
    child,
    pid: child.pid ?? -1,
    lines,
    waitFor: (stream, pattern, ms = 30_000) =>
      new Promise((resolve, reject) => {
        const told = () => `bake ${args.join(' ')}; stdout:\n${text.stdout}\nstderr:\n${text.stderr}`
        const look = () => {
          const found = lines(stream).find((line) => pattern.test(line))
          if (found !== undefined) finish(() => resolve(found))
        }
        const giveUp = (why: string) => finish(() => reject(new Error(`${why} without a line like ${pattern}: ${told()}`)))
        const onClose = () => {
          look()
          giveUp('ended')
        }
        const timer = setTimeout(() => giveUp(`${ms} ms passed`), ms)
        const finish = (settle: () => void) => {
          clearTimeout(timer)
          child[stream]!.off('data', look)
          child.off('close', onClose)
          settle()
        }
        child[stream]!.on('data', look)
        child.on('close', onClose)
        look()
      }),
    kill: (signal = 'SIGINT') => void child.kill(signal),
    wait: () => ended,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await ended.catch(() => {})
    },
  }
}

function environment(more: BakeOptions['env'] = {}): NodeJS.ProcessEnv {
  const dropped = /^(BAKE_|VITEST|NODE_ENV$|NODE_OPTIONS$|FORCE_COLOR$|NO_COLOR$|TEST$)/
  const own = Object.entries(process.env).filter(([name]) => !dropped.test(name))
  return Object.fromEntries([...own, ...Object.entries(more)].filter(([, value]) => value !== undefined))
}
