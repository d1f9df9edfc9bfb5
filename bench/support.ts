import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))
export const BAKE = join(ROOT, 'bin/bake')
/** Made by bin/setup from distribution packages. */
export const BASE_IMAGE = process.env.BAKE_BENCH_BASE ?? 'localhost/bakehouse/base:bookworm'

export const say = (text: string) => process.stderr.write(`${text}\n`)

export const median = (values: number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
export const round = (value: number) => Math.round(value * 10) / 10

/** Phases of a bake by their names, seconds. */
export type Phases = Record<string, number>

/** Of what `bake ami --json` tells; phases that come more than once are added up. */
export function byPhase(phases: { phase: string; seconds: number }[]): Phases {
  const sums: Phases = {}
  for (const { phase, seconds } of phases) sums[phase] = round((sums[phase] ?? 0) + seconds)
  return sums
}

export const written = (phases: Phases) =>
  Object.entries(phases)
    .map(([phase, value]) => `${phase} ${value} s`)
    .join(', ')

export interface Timed {
  ms: number
  stdout: string
  stderr: string
}

/** Runs a command to its end and times the whole process. Throws with its output when it fails. */
export function timed(command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Timed {
  const started = performance.now()
  const { status, stdout, stderr, error } = spawnSync(command, args, { ...options, encoding: 'utf8', maxBuffer: 1 << 30 })
  const ms = performance.now() - started
  if (error || status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status ?? error}\n${stdout}\n${stderr}`)
  return { ms, stdout, stderr }
}

/** A throw-away git project with services of its own that stay up until it is disposed. */
export class Project implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'bake-bench-'))
  readonly env: NodeJS.ProcessEnv = { ...process.env, BAKE_HOST_LINGER_MS: '3600000', NO_COLOR: '1' }

  constructor(files: Record<string, string | Buffer>) {
    this.git('init', '-q', '-b', 'main')
    this.write(files)
    this.commit('first')
  }

  write(files: Record<string, string | Buffer>) {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(this.dir, name)), { recursive: true })
      writeFileSync(join(this.dir, name), content)
    }
  }

  git(...args: string[]) {
    return timed('git', ['-c', 'user.name=bench', '-c', 'user.email=bench@example.org', '-c', 'commit.gpgsign=false', ...args], {
      cwd: this.dir,
    }).stdout.trim()
  }

  commit(message: string) {
    this.git('add', '-A')
    this.git('commit', '-q', '--allow-empty', '-m', message)
  }

  bake(...args: string[]): Timed {
    return timed(BAKE, args, { cwd: this.dir, env: this.env })
  }

  start(args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    return spawn(BAKE, args, { cwd: this.dir, env: { ...this.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] })
  }

  /** The host process of this project's services. */
  get host(): { pid: number; registry: string } {
    return JSON.parse(readFileSync(join(this.dir, '.bake/host.json'), 'utf8')) as { pid: number; registry: string }
  }

  /** Access log of the services' registry so far. */
  get registryLog(): string {
    return readFileSync(join(this.dir, '.bake/registry.log'), 'utf8')
  }

  [Symbol.dispose]() {
    try {
      process.kill(this.host.pid, 'SIGTERM')
    } catch {
      // It never started, or ended by itself.
    }
    spawnSync('sleep', ['0.5'])
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Peak resident set of a process in MB, from the kernel. */
export const peakMb = (pid: number): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024

export const bakeYaml = (images: Record<string, string>) =>
  `project: bench\nimages:\n${Object.entries(images)
    .map(([name, context]) => `  ${name}: { context: ${context} }\n`)
    .join('')}`
