import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ledger } from '../../src/io/ledger.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import type { JobSender } from '../../src/io/queue.ts'
import { localSender } from '../../src/io/queue-sender.ts'
import { formatBody, type ImageJob } from '../../src/jobs/job.ts'
import { commitDocumentSchema, ENDED, read, readBuild } from '../../src/jobs/records.ts'
import { keys, newBuildId } from '../../src/names.ts'
import { type AwsProxy, startAwsProxy } from '../../test/support/aws-faults.ts'
import { startBake } from '../../test/support/bake.ts'
import { makeFleet } from '../../test/support/fleet.ts'
import { bakeYaml, Project, round, say } from '../support.ts'
import { ask } from './ask.ts'

const JOBS = 400
const EMULATED_JOBS = 200
const WEB = { 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n', 'web/server.js': 'console.log(1)\n' }

/** Jobs per second whose key is published and whose tags are there, on one machine's own adapters, by one worker process. */
export async function noop(): Promise<object> {
  using project = new Project({ 'bake.yaml': bakeYaml({ web: 'web' }), ...WEB })
  const first = JSON.parse(project.bake('image', '--json').stdout) as { images: { build: string }[] }
  process.kill(project.host.pid, 'SIGTERM')
  await sleep(2_000)
  // A host without a worker, so that the queue is full before one starts.
  project.env.BAKE_DEFAULT_WORKER = '0'
  project.bake('image')
  const { queueEndpoint } = JSON.parse(readFileSync(join(project.dir, '.bake/host.json'), 'utf8')) as { queueEndpoint: string }
  const ledger = new DirectoryLedger(join(project.dir, '.bake/ledger'))
  const builds = await enqueue(
    ledger,
    localSender(() => queueEndpoint, 'bake'),
    first.images[0]!.build,
    JOBS,
  )
  await using worker = startBake(['worker'], { cwd: project.dir, built: true, env: { BAKE_HOST_LINGER_MS: '60000' } })
  await worker.waitFor('stderr', /is ready/)
  const seconds = await untilEnded(ledger, builds)
  say(`${JOBS} jobs without work: ${round(JOBS / seconds)} per second (bar 20)`)
  return { noop_per_s: round(JOBS / seconds) }
}

/** The same on moto: its calls per job, and what it serves at most when nobody works in between. */
export async function emulatedNoop(): Promise<object> {
  await using stack = new AsyncDisposableStack()
  let proxy: AwsProxy | undefined
  await using fleet = await makeFleet({
    files: WEB,
    async through(endpoint) {
      proxy = stack.use(await startAwsProxy(endpoint))
      return proxy.endpoint
    },
  })
  const worker = await fleet.worker('first', { built: true })
  const commit = await fleet.repo.git('rev-parse', 'HEAD')
  const asked = await ask(fleet, commit, true)
  worker.kill('SIGTERM')
  await worker.wait()
  const builds = await enqueue(fleet.ledger, fleet.queue, asked.outcomes[0]!.build!, EMULATED_JOBS)
  const total = () => Object.values(proxy!.calls).reduce((sum, count) => sum + count, 0)
  const before = total()
  await fleet.worker('second', { built: true })
  const seconds = await untilEnded(fleet.ledger, builds)
  const calls = (total() - before) / EMULATED_JOBS
  const ceiling = await putsPerSecond(fleet.ledger)
  say(
    `on moto: ${round(EMULATED_JOBS / seconds)} per second with ${round(calls)} calls each; the emulator alone serves ${round(ceiling)} calls per second`,
  )
  return { moto_noop_per_s: round(EMULATED_JOBS / seconds), moto_calls_per_job: round(calls), moto_calls_per_s: round(ceiling) }
}

/** `count` jobs like that of a build that has ended. */
async function enqueue(ledger: Ledger, queue: JobSender, build: string, count: number): Promise<string[]> {
  const record = (await readBuild(ledger, build))!
  const { project, repository, config, commit, image, key, branch, rebuild, priority } = record
  const pins = (await read(ledger, keys.commit(commit, image), commitDocumentSchema))!.pins
  const common = { version: 1, kind: 'image', project, repository, config, commit, image, key, pins, rebuild, priority } as const
  const job: Omit<ImageJob, 'build'> = { ...common, ...(branch === undefined ? {} : { branch }) }
  const builds = Array.from({ length: count }, () => newBuildId())
  for (const id of builds) await queue.send('normal', formatBody({ ...job, build: id }))
  return builds
}

async function untilEnded(ledger: Ledger, builds: string[]): Promise<number> {
  const started = performance.now()
  const open = new Set(builds)
  while (open.size > 0) {
    for (const build of open) {
      const record = await readBuild(ledger, build)
      if (!record || !ENDED.has(record.status)) break
      if (record.status !== 'tagged') throw new Error(`build ${build} is ${record.status}: ${record.failure?.message}`)
      open.delete(build)
    }
    await sleep(20)
  }
  return (performance.now() - started) / 1000
}

const PUTS = 400

async function putsPerSecond(ledger: Ledger): Promise<number> {
  const started = performance.now()
  await Promise.all(
    Array.from({ length: 8 }, async (_, client) => {
      for (let n = 0; n < PUTS / 8; n++) await ledger.put(`bench/${client}-${n}`, { n })
    }),
  )
  return PUTS / ((performance.now() - started) / 1000)
}
