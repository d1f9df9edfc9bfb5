// bin/fleet-demo: a fleet of workers on this machine, AWS played by moto. Jobs are poured in, workers are killed (SIGKILL) while they build and started
// again, `bake status` shows it all; at the end every commit must have its images. Nothing stays but the engine's build cache.
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import {
  BASE,
  end,
  forgetImages,
  over,
  plainEnv,
  pushBase,
  root,
  run,
  service,
  startAws,
  startRegistry,
} from './fleet-demo-services.js'

const USAGE = `usage: bin/fleet-demo [--workers N] [--commits N] [--kills N]

  --workers   workers, each with a state directory of its own; 4 unless told
  --commits   commits of the example, two images each; 10 unless told
  --kills     workers killed while they build; 5 unless told
`
const IMAGES = ['web', 'jobs']
/** Between a kill and the next look for somebody to kill, and before a killed worker is back. */
const PAUSE_MS = 1_500
const DEADLINE_MS = 15 * 60_000
const TABLE_MS = 5_000

const { workers, commits, kills } = options()
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
])
  process.on(signal, () => {
    process.exitCode ??= code
    over.abort(new Error(signal))
  })

const colours = process.stdout.isTTY && !process.env.NO_COLOR
const bold = (text) => (colours ? `\x1b[1m${text}\x1b[m` : text)
const say = (text) => console.log(`\n${bold(text)}`)

async function main() {
  await using undo = new AsyncDisposableStack()
  const work = mkdtempSync(join(tmpdir(), 'bake-fleet-demo-'))
  undo.defer(() => rmSync(work, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }))

  say(`AWS (moto), a registry, ${workers} workers on this machine's engine`)
  const [registry, aws] = [await startRegistry(work, undo), await startAws(work, undo)]
  const base = await pushBase(registry, undo)
  const shop = await makeShop(work, registry, base)
  undo.defer(() => forgetImages(registry))
  const env = { ...plainEnv, AWS_ENDPOINT_URL: aws, AWS_EC2_METADATA_DISABLED: 'true', BAKE_STATE_DIR: join(work, 'asker') }
  const bake = (...args) => run(join(root, 'bin/bake'), args, { cwd: shop.dir, env })
  await bake('setup', '--yes')

  const fleet = startWorkers(work, shop.dir, env, undo)
  say(`${commits} commits, ${IMAGES.length} images each; a third asked for twice; ${kills} workers killed while they build`)
  const table = showTable(shop.dir, env, bake)
  undo.defer(() => table.stop())
  const done = new AbortController()
  const killing = fleet.killSome(bake, done.signal)
  const start = performance.now()
  let missing = []
  try {
    const asked = await pour(shop, bake)
    missing = await waitForTags(registry, asked)
  } finally {
    done.abort()
    await killing
    await table.stop()
  }
  return await summary({ missing, fleet, bake, seconds: (performance.now() - start) / 1000 })
}

/** Every image of every commit has its tag, or the time is over: those that have none. */
async function waitForTags(registry, asked) {
  let missing = asked.flatMap((commit) => IMAGES.map((image) => ({ commit, image })))
  const deadline = performance.now() + DEADLINE_MS
  while (missing.length > 0 && performance.now() < deadline) {
    const found = await Promise.all(missing.map(({ commit, image }) => hasTag(registry, image, `sha-${commit}`)))
    missing = missing.filter((_, at) => !found[at])
    await sleep(500, undefined, { signal: over.signal })
  }
  return missing
}

async function hasTag(registry, image, tag) {
  const accept = 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json'
  const url = `http://${registry}/v2/shop/${image}/manifests/${tag}`
  const answer = await fetch(url, { method: 'HEAD', headers: { accept }, signal: over.signal })
  return answer.ok
}

async function summary({ missing, fleet, bake, seconds }) {
  const { builds } = JSON.parse(await bake('builds', '--limit', '10000', '--json'))
  const { dead = 0 } = JSON.parse(await bake('status', '--json'))
  const count = (status) => builds.filter((build) => build.status === status).length
  say(missing.length === 0 && dead === 0 ? 'Nothing was lost' : 'Something was lost')
  const total = commits * IMAGES.length
  console.log(`${total - missing.length} of ${total} commit tags are in the registry, after ${seconds.toFixed(1)} s`)
  console.log(
    `${builds.length} jobs: ${count('built')} built, ${count('tagged')} done before and only tagged, ${count('failed')} failed`,
  )
  const were = fleet.killed === 1 ? 'worker was' : 'workers were'
  console.log(`${fleet.killed} ${were} killed while building, and started again; ${dead} jobs in the dead-letter queue`)
  for (const { commit, image } of missing) console.log(`missing: ${image} of ${commit}`)
  return missing.length === 0 && dead === 0 ? 0 : 3
}

/** Commits that change web each time and jobs every third time, asked for while the fleet works; a third of them twice. */
async function pour(shop, bake) {
  const asked = []
  for (let n = 1; n <= commits; n++) {
    const commit = await shop.commit(n)
    asked.push(commit)
    await bake('image', '--sha', commit, '--no-wait')
    if (n % 3 === 0) await bake('image', '--sha', commit, '--no-wait')
  }
  return asked
}

/** `bake status`, live on a terminal, else every few seconds. */
function showTable(cwd, env, bake) {
  const stopped = new AbortController()
  if (process.stdout.isTTY) {
    const child = spawn(join(root, 'bin/bake'), ['status'], { cwd, env, stdio: ['ignore', 'inherit', 'ignore'] })
    return { stop: () => end(child, 'SIGINT') }
  }
  const printing = (async () => {
    while (!stopped.signal.aborted) {
      await sleep(TABLE_MS, undefined, { signal: stopped.signal }).catch(() => {})
      if (!stopped.signal.aborted) console.log(`\n${(await bake('status', '--once').catch(() => '')).trimEnd()}`)
    }
  })()
  return {
    async stop() {
      stopped.abort()
      await printing
    },
  }
}

function startWorkers(work, cwd, env, undo) {
  const running = new Map()
  const startWorker = (name) => {
    const own = { ...env, BAKE_STATE_DIR: join(work, name), BAKE_LOG: 'json' }
    running.set(
      name,
      service(join(root, 'bin/bake'), ['worker', '--name', name, '--slots', '1'], {
        cwd,
        env: own,
        log: join(work, `${name}.log`),
      }),
    )
  }
  undo.defer(() => Promise.all([...running.values()].map((child) => end(child, 'SIGKILL'))))
  for (let n = 1; n <= workers; n++) startWorker(`worker-${n}`)
  const fleet = {
    killed: 0,
    /** Kills whoever builds, one after the other; never the same one twice in a row while others build. */
    async killSome(bake, signal) {
      let last
      while (fleet.killed < kills && !signal.aborted && !over.signal.aborted) {
        const status = JSON.parse(await bake('status', '--json').catch(() => '{"workers":[]}'))
        const busy = status.workers.filter(
          ({ state, name, running: builds }) => state === 'ready' && builds.length > 0 && name !== last,
        )
        const victim = busy[Math.floor(Math.random() * busy.length)]?.name
        if (victim !== undefined && !signal.aborted) {
          await end(running.get(victim), 'SIGKILL')
          fleet.killed++
          last = victim
          await sleep(PAUSE_MS)
          startWorker(victim)
        }
        await sleep(PAUSE_MS)
      }
    },
  }
  return fleet
}

async function makeShop(work, registry, base) {
  const dir = join(work, 'shop')
  cpSync(join(root, 'examples/shop'), dir, { recursive: true, filter: (path) => !/\/(?:node_modules|\.bake)(?:\/|$)/.test(path) })
  const edit = (file, change) => writeFileSync(join(dir, file), change(readFileSync(join(dir, file), 'utf8')))
  for (const image of IMAGES) edit(`${image}/Dockerfile`, (text) => text.replaceAll(BASE, base))
  const aws = `repository: ${dir}\nregistry: ${registry}/shop\naws: { region: us-east-1, queue: bake, bucket: bake-demo }\nfleet: { shards: 2 }\n`
  edit('bake.yaml', (text) => text.replace(/^project: .*\n/m, (line) => line + aws))
  const who = [
    '-c',
    'user.name=bake demo',
    '-c',
    'user.email=demo@localhost',
    '-c',
    'commit.gpgsign=false',
    '-c',
    'core.hooksPath=/dev/null',
  ]
  const git = (...args) => run('git', ['-C', dir, ...who, ...args], { env: plainEnv })
  await git('init', '--quiet', '--initial-branch=main')
  return {
    dir,
    async commit(n) {
      edit('web/src/page.html', (text) => text.replace(/<!-- .* -->\n|$/, `<!-- loaf ${n} -->\n`))
      if (n % 3 === 1) edit('jobs/worker.js', (text) => `${text}// loaf ${n}\n`)
      await git('add', '--all')
      await git('commit', '--quiet', '--message', `Loaf ${n}`)
      return (await git('rev-parse', 'HEAD')).trim()
    },
  }
}

function options() {
  const number = { type: 'string' }
  try {
    const { values } = parseArgs({
      options: { workers: number, commits: number, kills: number, help: { type: 'boolean', short: 'h' } },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const read = (name, fallback, least) => {
      const value = Number(values[name] ?? fallback)
      if (Number.isInteger(value) && value >= least && value <= 1_000) return value
      throw new Error(`--${name} must be a number from ${least} to 1000`)
    }
    return { workers: read('workers', 4, 1), commits: read('commits', 10, 1), kills: read('kills', 5, 0) }
  } catch (error) {
    process.stderr.write(`error: ${error.message}\n${USAGE}`)
    process.exit(2)
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!over.signal.aborted) {
    process.stderr.write(`error: ${error.message}\n`)
    process.exitCode = 1
  }
}
