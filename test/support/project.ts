import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { stopHost } from '../../src/io/host/status.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { type Claims, readClaims } from '../../src/jobs/claims.ts'
import { listBuilds } from '../../src/jobs/history.ts'
import { type BuildRecord, commitDocumentSchema, read } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { parseReference } from '../../src/reference.ts'
import { waitFor } from '../../src/wait.ts'
import { type BakeOptions, type BakeResult, type RunningBake, runBake, startBake } from './bake.ts'
import { makeRepo, type RepoFiles, type TestRepo } from './repo.ts'

/** Made by bin/setup from distribution packages. */
export const BASE_IMAGE = 'localhost/bakehouse/base:bookworm'

export const WEB_FILES: RepoFiles = {
  'bake.yaml': 'project: shop\nimages:\n  web: { context: web }\n',
  'README.md': 'outside of every context\n',
  'web/Dockerfile': `FROM ${BASE_IMAGE} AS base\nRUN echo building\nFROM base\nCOPY server.js /app/\n`,
  'web/server.js': 'console.log(1)\n',
}

export interface TestProject extends AsyncDisposable {
  readonly repo: TestRepo
  readonly dir: string
  readonly ledger: DirectoryLedger
  readonly registry: HttpRegistry
  env: Record<string, string | undefined>
  bake(args: string[], options?: BakeOptions): Promise<BakeResult>
  start(args: string[], options?: BakeOptions): RunningBake
  builds(): Promise<BuildRecord[]>
  /** The claim log of the key that `commit` gave `image`. */
  claims(commit: string, image?: string): Promise<Claims>
  /** Digest that a tag of the image names in the registry. */
  tagged(tag: string, image?: string): Promise<string | undefined>
  host(): Promise<{ pid: number; registry: string } | undefined>
  /** Processes that have anything to do with this project. */
  processes(): Promise<string[]>
}

/** A throw-away project with services of its own. At the end its host is stopped, and what still runs then fails the test. */
export async function makeProject(
  files: RepoFiles = WEB_FILES,
  env: Record<string, string | undefined> = {},
): Promise<TestProject> {
  const repo = await makeRepo({ files })
  const stateDir = join(repo.dir, '.bake')
  const ledger = new DirectoryLedger(join(stateDir, 'ledger'))
  const registry = new HttpRegistry()
  const host = async () => {
    const text = await readFile(join(stateDir, 'host.json'), 'utf8').catch(() => undefined)
    return text === undefined ? undefined : (JSON.parse(text) as { pid: number; registry: string })
  }
  const project: TestProject = {
    repo,
    dir: repo.dir,
    ledger,
    registry,
    env: { BAKE_HOST_LINGER_MS: '1500', ...env },
    bake: (args, options = {}) => runBake(args, { cwd: repo.dir, ...options, env: { ...project.env, ...options.env } }),
    start: (args, options = {}) => startBake(args, { cwd: repo.dir, ...options, env: { ...project.env, ...options.env } }),
    builds: async () => (await listBuilds(ledger, { limit: 1000 })).builds,
    async claims(commit, image = 'web') {
      const document = await read(ledger, keys.commit(commit, image), commitDocumentSchema)
      if (!document) throw new Error(`nobody asked for ${image} of ${commit}`)
      return readClaims(ledger, document.key)
    },
    async tagged(tag, image = 'web') {
      const prefix = (await host())?.registry
      return (await registry.head({ ...parseReference(`${prefix}/shop/${image}:${tag}`) }))?.digest
    },
    host,
    processes: () => processesOf(repo.dir),
    async [Symbol.asyncDispose]() {
      await stopHost(stateDir)
      const left = await waitFor(async () => ((await processesOf(repo.dir)).length === 0 ? [] : undefined), {
        what: 'processes to end',
        deadlineMs: 15_000,
        intervalMs: 100,
      }).catch(() => processesOf(repo.dir))
      await repo[Symbol.asyncDispose]()
      if (left.length > 0) throw new Error(`left running:\n${left.join('\n')}`)
    },
  }
  return project
}

/** Command lines of processes that name `dir` in their arguments or work in it. */
async function processesOf(dir: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  const lines = await Promise.all(
    pids.map(async (pid) => {
      const [command, cwd, stat] = await Promise.all([
        readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''),
        readlink(`/proc/${pid}/cwd`).catch(() => ''),
        readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''),
      ])
      const zombie = /\) Z /.test(stat)
      return !zombie && (command.includes(dir) || cwd.startsWith(dir)) ? [`${pid} ${command.replaceAll('\0', ' ')}`] : []
    }),
  )
  return lines.flat()
}
