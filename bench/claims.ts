import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { bakeYaml, Project, say } from './support.ts'

/** Steps of a claim's holder, all before it publishes; at the last one nothing but the creation of the next entry is left to do. */
const POINTS = ['claimed', 'fetched', 'checked-out', 'pushed', 'publishing']
const LEASE_SECONDS = 2
const ENV = {
  ...{ BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: String(LEASE_SECONDS), BAKE_VISIBILITY_SECONDS: '3' },
}
/** For the resumed worker to do what it would, before it is asked to leave. */
const RESUMED_MS = 500
const PATIENCE_MS = 60_000

/** Two workers, one stopped (SIGSTOP) past its lease at a step of its build and resumed when the other has published: what the resumed one still writes. */
export default async function claims(runs = 10, points = POINTS): Promise<object> {
  using project = new Project({ 'bake.yaml': bakeYaml({ web: 'web' }), 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n' })
  const figures = { resumed: 0, published: 0, runs: runs * points.length }
  for (const point of points) {
    for (let n = 1; n <= runs; n++) {
      const wrong = await pauseAt(point, project)
      figures.resumed++
      if (wrong.length > 0) figures.published++
      say(`${point} ${n} of ${runs}: ${wrong.length === 0 ? 'the resumed worker published nothing' : wrong.join('; ')}`)
    }
  }
  say(`${figures.published} of ${figures.resumed} resumed workers published (bar 0 of ${figures.runs})`)
  return figures
}

/** One build whose worker stands still at `point`. What the resumed one wrote that it must not. */
async function pauseAt(point: string, project: Project): Promise<string[]> {
  project.write({ 'web/server.js': `// ${point} ${Math.random()}\n` })
  project.commit(point)
  const paused = new Worker(project, 'paused', { BAKE_FAILPOINT: `${point}:stop` })
  let other: Worker | undefined
  try {
    await paused.says(/is ready/)
    const build = project.bake('image', '--no-wait').stdout.trim()
    await paused.says(new RegExp(`"failpoint":"${point}"`))
    const since = performance.now()
    other = new Worker(project, 'other')
    await other.says(/is ready/)
    project.bake('logs', build, '--follow')
    const stoodMs = performance.now() - since
    if (stoodMs < LEASE_SECONDS * 1000) throw new Error(`the claim was taken over after ${stoodMs} ms, within its lease`)

    const before = new Written(project, build)
    paused.child.kill('SIGCONT')
    await sleep(RESUMED_MS)
    for (const worker of [paused, other]) await worker.leave()
    return new Written(project, build).differences(before)
  } finally {
    paused.child.kill('SIGKILL')
    other?.child.kill('SIGKILL')
  }
}

class Worker {
  readonly child: ChildProcess
  readonly #lines: string[] = []

  constructor(project: Project, name: string, env: NodeJS.ProcessEnv = {}) {
    this.child = project.start(['worker', '--name', name], { ...ENV, ...env })
    createInterface(this.child.stderr!).on('line', (line) => this.#lines.push(line))
  }

  async says(pattern: RegExp): Promise<void> {
    for (const start = performance.now(); !this.#lines.some((line) => pattern.test(line)); await sleep(20))
      if (this.child.exitCode !== null || performance.now() - start > PATIENCE_MS)
        throw new Error(`a worker didn't say ${pattern}:\n${this.#lines.join('\n')}`)
  }

  /** Drains, so that whatever it holds comes to an end of its own. */
  async leave(): Promise<void> {
    const ended = once(this.child, 'exit', { signal: AbortSignal.timeout(PATIENCE_MS) })
    this.child.kill('SIGTERM')
    const [code] = (await ended) as [number | null]
    if (code !== 0) throw new Error(`a worker ended with ${code}:\n${this.#lines.join('\n')}`)
  }
}

interface Entry {
  state: string
  owner?: string
  digest?: string
}

/** What says that an image is published: the claim log, `images/`, the branch's log, tags. A document written again, with the same content too, is another file. */
class Written {
  readonly #files: Map<string, string>
  readonly #entries: Entry[]
  readonly #digest: string
  readonly #tagged: string[]

  constructor(project: Project, build: string) {
    const ledger = join(project.dir, '.bake/ledger')
    const document = (path: string) => JSON.parse(readFileSync(join(ledger, path), 'utf8')) as Entry & { key: string }
    const { key, digest = '' } = document(`builds/${build}`)
    const files = ['claims', 'images', 'branches'].flatMap((dir) =>
      readdirSync(join(ledger, dir), { recursive: true, withFileTypes: true })
        .filter((file) => file.isFile())
        .map((file) => join(file.parentPath, file.name)),
    )
    this.#files = new Map(files.map((path) => [path.slice(ledger.length + 1), `${statSync(path).ino} ${statSync(path).mtimeMs}`]))
    this.#entries = readdirSync(join(ledger, 'claims', key))
      .sort()
      .map((n) => document(`claims/${key}/${n}`))
    this.#digest = digest
    this.#tagged = project.registryLog.split('\n').filter((line) => /PUT \/v2\/\S+\/manifests\//.test(line))
  }

  /** Sentences on what came since `before`, and on what should have been there then. */
  differences(before: Written): string[] {
    const published = before.#entries.filter(({ state }) => state === 'published')
    const first = before.#entries.find(({ state }) => state === 'claimed')
    const changed = [...this.#files].filter(([path, file]) => before.#files.get(path) !== file).map(([path]) => path)
    const tags = this.#tagged.slice(before.#tagged.length)
    return [
      ...(first?.owner?.startsWith('paused.') ? [] : ['the first claim is not the paused one’s']),
      ...(published.length === 1 && published[0]!.owner?.startsWith('other.') && published[0]!.digest === before.#digest
        ? []
        : [`published by ${published.map(({ owner }) => owner).join(', ') || 'nobody'}`]),
      ...(changed.length === 0 ? [] : [`written after it was resumed: ${changed.join(', ')}`]),
      ...(tags.length === 0 ? [] : [`tagged after it was resumed: ${tags.join(', ')}`]),
    ]
  }
}
