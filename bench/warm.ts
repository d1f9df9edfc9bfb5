import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type OwnEngine, startEngine } from '../test/support/engine.ts'
import { type Shape, startForwarder } from '../test/support/forwarder.ts'
import { startRegistry, type TestRegistry } from '../test/support/registry.ts'
import { BASE_IMAGE, median, Project, round, say, timed } from './support.ts'

/** As issue 3 asks for: one way, each direction by itself, for the workers, their engines and the asker. */
const LINK: Shape = { megabitsPerSecond: 200, latencyMs: 5 }
/** What `npm ci` of a middling Node service leaves: 130 MB, a few large files among some thousand small ones. Random, so that no compression helps. */
const INSTALL =
  "const fs = require('fs'), { randomBytes } = require('crypto'); for (let n = 0; n < 3000; n++) { if (n % 100 === 0) fs.mkdirSync('node_modules/' + n / 100, { recursive: true }); fs.writeFileSync('node_modules/' + Math.floor(n / 100) + '/' + n, randomBytes(n < 40 ? 2500000 : 10000)) }"
/** What each kind of worker must find, or the measurement is of something else. */
const KINDS = { hot: 'built-here', warmed: 'warmed', registry: 'registry', cold: 'cold' } as const
type Kind = keyof typeof KINDS

const buildx = () =>
  ['/usr/libexec/docker/cli-plugins/docker-buildx', '/usr/lib/docker/cli-plugins/docker-buildx'].find(
    (path) => spawnSync(path, ['version']).status === 0,
  )!

/** The first build of a one-line change, by what the worker's caches hold. Each worker has a Docker engine of its own. */
export default async function warm(runs = 5): Promise<object> {
  await using registry = await startRegistry()
  await using forwarder = await startForwarder()
  const to = Number(registry.host.split(':')[1])
  const link = `localhost:${await forwarder.forward({ port: 0, to, shape: LINK })}`
  say('the base image goes to the registry')
  pushBase(registry)

  using project = new Project(app(link))
  Object.assign(project.env, { BAKE_DEFAULT_WORKER: '0', BAKE_FOLLOW_SECONDS: '0' })
  await using hot = await startEngine({ reach: [link] })
  const times: Record<Kind, number[]> = { hot: [], warmed: [], registry: [], cold: [] }
  const warming: number[] = []
  say('the hot worker builds its first')
  await firstBuild(project, 'hot', hot)
  for (let n = 0; n < runs; n++) {
    // Hot twice: it is what all are compared with, and quick.
    for (const kind of ['hot', 'warmed', 'hot', 'registry', 'cold'] as const) {
      await using fresh = kind === 'hot' ? undefined : await startEngine({ reach: [link] })
      using _hidden = kind === 'cold' ? hideCaches(registry) : undefined
      const { ms, readyMs } = await firstBuild(project, kind, fresh ?? hot, n)
      times[kind].push(ms)
      if (kind === 'warmed') warming.push(readyMs)
    }
    say(
      `${n + 1}/${runs}: ${Object.entries(times)
        .map(([kind, all]) => `${kind} ${Math.round(all.at(-1)!)} ms`)
        .join(', ')}`,
    )
  }
  const figures = {
    runs,
    hot_ms: round(median(times.hot)),
    warmed_ms: round(median(times.warmed)),
    registry_ms: round(median(times.registry)),
    cold_ms: round(median(times.cold)),
    warming_ms: round(median(warming)),
  }
  const ratio = (ms: number) => (ms / figures.hot_ms).toFixed(2)
  say(
    `hot ${figures.hot_ms} ms; warmed ${figures.warmed_ms} ms (${ratio(figures.warmed_ms)}, bar 1.3); registry ${figures.registry_ms} ms (${ratio(figures.registry_ms)}, valid from 1.5); cold ${figures.cold_ms} ms (${ratio(figures.cold_ms)}); warming took ${figures.warming_ms} ms before work`,
  )
  return figures
}

/** Until disposed the registry has no cache: its blobs stay, what says how to use them is away. Nobody else's next build is the worse for it. */
function hideCaches(registry: TestRegistry): Disposable {
  const caches = join(registry.root, 'docker/registry/v2/repositories/bench/bake-cache')
  renameSync(caches, `${caches}-hidden`)
  return {
    [Symbol.dispose]() {
      rmSync(caches, { recursive: true, force: true })
      renameSync(`${caches}-hidden`, caches)
    },
  }
}

/** Starts a worker with nothing but its engine's caches, changes one line, asks, and ends the worker. Throws when the build's warmth is another. */
async function firstBuild(project: Project, kind: Kind, engine: OwnEngine, n = -1): Promise<{ ms: number; readyMs: number }> {
  const env = { DOCKER_HOST: engine.host, BAKE_WARM_SECONDS: kind === 'warmed' ? '300' : '0' }
  const started = performance.now()
  // The hot worker stays the same one, with its work tree; the others are new.
  const worker = project.start(['worker', '--name', kind === 'hot' ? kind : `${kind}${n}`], env)
  try {
    await ready(worker)
    const readyMs = performance.now() - started
    project.write({ 'web/src/server.js': `console.log('${kind} ${n} ${Math.random()}')\n` })
    project.commit(`${kind} ${n}`)
    const { ms } = project.bake('image')
    const { build } = JSON.parse(project.bake('build', 'latest', '--json').stdout) as { build: { warmth: string } }
    if (n >= 0 && build.warmth !== KINDS[kind]) throw new Error(`the ${kind} worker's build was ${build.warmth}`)
    return { ms, readyMs }
  } finally {
    const ended = worker.exitCode === null ? once(worker, 'exit') : undefined
    worker.kill('SIGTERM')
    await ended
  }
}

async function ready(worker: ChildProcess): Promise<void> {
  let text = ''
  await new Promise<void>((resolve, reject) => {
    worker.stderr!.setEncoding('utf8').on('data', (more: string) => {
      text += more
      if (/ is ready/.test(text)) resolve()
    })
    worker.once('exit', () => reject(new Error(`the worker ended: ${text}`)))
  })
  if (/isn't warmed|not warm/.test(text)) throw new Error(text)
}

/** Compressed, as registries have it. `push=` as in src/io/buildx-arguments.ts. */
function pushBase(registry: TestRegistry): void {
  const dir = mkdtempSync(join(tmpdir(), 'bake-bench-base-'))
  writeFileSync(join(dir, 'Dockerfile'), `FROM ${BASE_IMAGE}\n`)
  const output = `type=image,name=${registry.host}/base:bookworm,push=,compression=gzip,force-compression=true,store=false`
  timed(buildx(), ['build', '--progress=plain', '--provenance=false', '--sbom=false', '--output', output, dir], {
    env: { ...process.env, BUILDX_CONFIG: join(dir, 'buildx') },
  })
  rmSync(dir, { recursive: true })
}

const app = (link: string): Record<string, string> => ({
  'bake.yaml': `project: bench\nregistry: ${link}/bench\nimages:\n  web: { context: web }\n`,
  'web/Dockerfile': `FROM ${link}/base:bookworm AS deps\nWORKDIR /app\nCOPY package-lock.json ./\nRUN node -e "${INSTALL}"\nFROM ${link}/base:bookworm\nWORKDIR /app\nCOPY --from=deps /app/node_modules ./node_modules\nCOPY src ./src\nRUN node --check src/server.js\nCMD ["node", "src/server.js"]\n`,
  'web/package-lock.json': `{ "unique": ${Math.random()} }\n`,
  ...Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`web/src/module-${n}.js`, `module.exports = ${n}\n`.repeat(200)])),
  'web/src/server.js': 'console.log(0)\n',
})
