import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { readClaims } from '../../src/jobs/claims.ts'
import { listBuilds } from '../../src/jobs/history.ts'
import { formatBody } from '../../src/jobs/job.ts'
import { type BuildRecord, commitDocumentSchema, ENDED, read } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { startAwsProxy } from '../../test/support/aws-faults.ts'
import type { RunningBake } from '../../test/support/bake.ts'
import { makeFleet, type TestFleet } from '../../test/support/fleet.ts'
import { say } from '../support.ts'
import { ask } from './ask.ts'

const IMAGES = ['ant', 'bee', 'cat', 'dog']
const WORKERS = 4
/**
 * The victim dies at these points, which it only passes while it holds a claim, or at any moment while it does. `building` isn't one of them: it is passed
 * with a build's first line, and these builds print none.
 */
const POINTS = [
  'claimed',
  'fetched',
  'checked-out',
  'pushed',
  'published',
  'image-document',
  'commit-tag',
  'branch-log',
  'branch-tag',
  'recorded',
]
const AT_ANY_MOMENT = 'any moment'
const KILLS = 33
/** Short, so that what a dead worker held is soon another's; a lease of production is 20 s. A victim comes back to die, not to warm its caches. */
const SETTINGS = { BAKE_LEASE_SECONDS: '8', BAKE_VISIBILITY_SECONDS: '20', BAKE_WARM_SECONDS: '0' }
/** Of AWS, added to the emulator's own. */
const LATENCY_MS = { sqs: 10, s3: 20 }
const REDELIVERED = 0.05
const GIVE_UP_MS = 40 * 60_000

/** Pours `jobs` jobs over four workers, a third of them for content that others ask for too, and kills workers meanwhile. */
export async function storm(jobs: number): Promise<object> {
  await using stack = new AsyncDisposableStack()
  await using fleet = await makeFleet({
    files: Object.fromEntries(
      IMAGES.flatMap((image) => [
        [`${image}/Dockerfile`, 'FROM scratch\nCOPY file /\n'],
        [`${image}/file`, '0'],
      ]),
    ),
    images: IMAGES.map((image) => `  ${image}: { context: ${image} }`).join('\n'),
    engines: true,
    through: async (endpoint) => stack.use(await startAwsProxy(endpoint, LATENCY_MS)).endpoint,
  })
  const commits = await makeCommits(fleet, Math.ceil(jobs / IMAGES.length))
  say(`${jobs} jobs: ${commits.length} commits of ${IMAGES.length} images`)

  const victims = Array.from({ length: WORKERS }, (_, n) => new Victim(fleet, `w${n + 1}`))
  await Promise.all(victims.map((victim) => victim.begin()))
  const pouring = pour(fleet, commits)
  const done = new AbortController()
  const killing = killAll(fleet, victims, done.signal)
  await pouring
  const records = await ended(fleet, jobs)
  done.abort()
  const kills = await killing
  for (const victim of victims) await victim.end()
  return { jobs: records.length, kills, ...(await accounts(fleet, commits, records)) }
}

/** Each commit changes two of three images' content on average: a third of the jobs is for content that an earlier commit has. */
async function makeCommits(fleet: TestFleet, count: number): Promise<string[]> {
  const commits: string[] = []
  for (let n = 1; n <= count; n++) {
    const changed = IMAGES.filter((_, at) => (n * IMAGES.length + at) % 3 !== 0)
    commits.push(await fleet.repo.commit(Object.fromEntries(changed.map((image) => [`${image}/file`, `${n}`]))))
  }
  return commits
}

/** As fast as askers can; one in twenty bodies is sent again, as SQS may deliver one twice. */
async function pour(fleet: TestFleet, commits: string[]): Promise<void> {
  let again = 0
  for (const [n, sha] of commits.entries()) {
    const asked = await ask(fleet, sha, false, n % 10 === 0 ? 'high' : 'normal')
    for (const { build } of asked.outcomes) {
      again += REDELIVERED
      if (build === undefined || again < 1) continue
      again -= 1
      await redeliver(fleet, build)
    }
    if (n % 50 === 49) say(`asked for ${n + 1} commits`)
  }
}

async function redeliver(fleet: TestFleet, build: string): Promise<void> {
  const record = (await fleet.ledger.get(keys.build(build))) as BuildRecord
  const { project, repository, config, commit, image, key, branch, priority, rebuild } = record
  const document = await read(fleet.ledger, keys.commit(commit, image), commitDocumentSchema)
  const pins = document?.pins ?? []
  const job = {
    version: 1,
    kind: 'image',
    build,
    project,
    repository,
    config,
    commit,
    image,
    key,
    pins,
    priority,
    rebuild,
  } as const
  await fleet.queue.send(priority, formatBody({ ...job, ...(branch === undefined ? {} : { branch }) }))
}

/** A worker that is killed and started again, the next time to die at another step. */
class Victim {
  readonly name: string
  readonly #fleet: TestFleet
  #process: RunningBake | undefined

  constructor(fleet: TestFleet, name: string) {
    this.#fleet = fleet
    this.name = name
  }

  async begin(point?: string): Promise<void> {
    const dies = point === undefined || point === AT_ANY_MOMENT ? {} : { BAKE_FAILPOINT: `${point}:kill` }
    this.#process = await this.#fleet.worker(this.name, { built: true, args: ['--slots', '2'], env: { ...SETTINGS, ...dies } })
  }

  kill(): void {
    this.#process?.kill('SIGKILL')
  }

  get gone(): boolean {
    const child = this.#process?.child
    return child !== undefined && (child.signalCode !== null || child.exitCode !== null)
  }

  async died(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted && !this.gone) await sleep(50)
    return this.gone
  }

  async end(): Promise<void> {
    this.#process?.kill('SIGTERM')
    await this.#process?.wait()
  }
}

/** Two victims at a time, so that two workers always live; each kill is at the next point. */
async function killAll(fleet: TestFleet, victims: Victim[], done: AbortSignal): Promise<number> {
  let begun = 0
  let kills = 0
  const lane = async (own: Victim[]) => {
    for (let turn = 0; begun < KILLS && !done.aborted; turn++) {
      const victim = own[turn % own.length]!
      const point = [...POINTS, AT_ANY_MOMENT][begun++ % (POINTS.length + 1)]!
      if (point === AT_ANY_MOMENT) {
        while (!done.aborted && !(await holdsClaim(fleet, victim.name))) await sleep(100)
        victim.kill()
      } else {
        await victim.end()
        await victim.begin(point)
      }
      if (!(await victim.died(done))) return
      say(`kill ${++kills}: ${victim.name} at ${point}`)
      await victim.begin()
    }
  }
  await Promise.all([lane(victims.slice(0, 2)), lane(victims.slice(2))])
  return kills
}

async function holdsClaim(fleet: TestFleet, name: string): Promise<boolean> {
  const { builds } = await listBuilds(fleet.ledger, { limit: 1000, status: 'running' })
  return builds.some((record) => record.worker === name)
}

async function ended(fleet: TestFleet, jobs: number): Promise<BuildRecord[]> {
  const started = performance.now()
  for (let told = 0; ; ) {
    const { builds } = await listBuilds(fleet.ledger, { limit: jobs + 100 })
    const over = builds.filter(({ status }) => ENDED.has(status)).length
    if (over === builds.length && builds.length >= jobs) return builds
    if (over - told >= 100) {
      told = over
      say(`${over} of ${builds.length} jobs have ended`)
    }
    if (performance.now() - started > GIVE_UP_MS) {
      say(`given up: ${builds.length - over} have not ended`)
      return builds
    }
    await sleep(2_000)
  }
}

/** What the ledger, the registry and the machine say afterwards. */
async function accounts(fleet: TestFleet, commits: string[], records: BuildRecord[]): Promise<object> {
  let lost = records.filter(({ status }) => status !== 'built' && status !== 'tagged').length
  for (const commit of commits) for (const image of IMAGES) if ((await fleet.tagged(`sha-${commit}`, image)) === undefined) lost++
  let double = 0
  let live = 0
  for (const key of new Set(records.map((record) => record.key))) {
    const { entries } = await readClaims(fleet.ledger, key)
    let published = 0
    for (const { state } of entries) {
      if (state === 'published') published++
      if (state === 'withdrawn') published = 0
      if (published > 1) double++
    }
    if (entries.at(-1)?.state === 'claimed') live++
  }
  return { lost, double, live_claims: live, leaked: await leaked(fleet) }
}

/** Processes that name the fleet's directories, and secrets' directories of processes that are gone. */
async function leaked(fleet: TestFleet): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  const processes = commands.filter((command) => command.includes(fleet.home))
  for (const command of processes) say(`left running: ${command.replaceAll('\0', ' ')}`)
  // A slot has one work tree per repository, which its next build moves; an idle worker that follows the others has a place of its own beside its slots.
  const trees: string[] = []
  for (const worker of await readdir(fleet.home))
    for (const path of await readdir(`${fleet.home}/${worker}`, { recursive: true }).catch(() => []))
      if (/slot-\d+\/tree-[0-9a-f]+$/.test(path)) trees.push(`${worker}/${path.slice(0, path.lastIndexOf('/'))}`)
  const extra = trees.length - new Set(trees).size
  return processes.length + extra
}
