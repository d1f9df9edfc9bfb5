import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type AskMachineWorld, askForMachine, bakedElsewhere } from '../../src/ami/ask.ts'
import { type Bake, type BakeAsk, bakeRelease } from '../../src/ami/bake.ts'
import { jobImages } from '../../src/ami/job-images.ts'
import { prunePart } from '../../src/ami/prune.ts'
import { localPart } from '../../src/ami/prune-local.ts'
import { logOfBake, readBake, readRelease } from '../../src/ami/records.ts'
import { StepPhases } from '../../src/ami/steps.ts'
import { failed, unavailable } from '../../src/errors.ts'
import type { MachineEvent } from '../../src/events.ts'
import { type QueueServer, startQueueServer } from '../../src/io/host/queue-server.ts'
import type { SqsQueue } from '../../src/io/queue-sqs.ts'
import { requestCancel } from '../../src/jobs/askers.ts'
import { readClaims } from '../../src/jobs/claims.ts'
import { followBuild, logOf } from '../../src/jobs/follow.ts'
import { formatBody, type MachineJob, parseBody } from '../../src/jobs/job.ts'
import { type BuildRecord, ENDED, readBuild, writeBuild } from '../../src/jobs/records.ts'
import { newBuildId } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'
import { type BakeWorker, type BakeWorkerOptions, makeAsker, openJobQueue, startBakeWorker } from '../support/bake-jobs.ts'
import { ASK, hold, MACHINE_FILES, type TestWorld } from '../support/bake-world.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'

const CHILD = fileURLToPath(new URL('../support/bake-worker.ts', import.meta.url))

let registry: TestRegistry
let repo: TestRepo
let server: QueueServer
let queue: SqsQueue
let asker: AskMachineWorld & TestWorld
let endpoint: string
let workers: BakeWorker[]
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())
beforeEach(async () => {
  repo = await makeRepo({ files: MACHINE_FILES })
  await repo.git('tag', 'v1')
  await writeFile(join(repo.dir, 'base.raw'), 'a base')
  server = await startQueueServer({ port: 0, dataDir: join(repo.dir, '.bake/queue') })
  endpoint = `http://127.0.0.1:${server.port}`
  queue = await openJobQueue(endpoint)
  asker = await makeAsker({ dir: repo.dir, registry: registry.host }, queue)
  workers = []
})
afterEach(async () => {
  for (const each of workers) await each[Symbol.asyncDispose]()
  await asker[Symbol.asyncDispose]()
  queue.close()
  await server.stop()
  await repo[Symbol.asyncDispose]()
})

function worker(name: string, options: Partial<BakeWorkerOptions> = {}): BakeWorker {
  const made = startBakeWorker({ dir: repo.dir, registry: registry.host, queue, name, ...options })
  workers.push(made)
  return made
}

async function ask(more: Partial<BakeAsk> = {}): Promise<{ build: string; plan: Bake['plan'] }> {
  const asked = await askForMachine({ ...ASK, ...more }, asker)
  if ('machine' in asked) throw new Error('it was there already')
  return asked
}

const ended = (build: string): Promise<BuildRecord> =>
  waitFor(
    async () => {
      const record = await readBuild(asker.ledger, build)
      return record && ENDED.has(record.status) ? record : undefined
    },
    { what: `bake ${build} to end`, deadlineMs: 60_000, intervalMs: 10 },
  )
const emptied = () =>
  waitFor(async () => ((await depth()).every((n) => n === 0) ? true : undefined), {
    what: 'the queue to be empty',
    deadlineMs: 30_000,
    intervalMs: 20,
  })
const depth = async () => {
  const { visible, inFlight, delayed } = await queue.depth()
  return [visible, inFlight, delayed]
}
const dead = async () => (await queue.depth()).dead
/** A moment after the record's end, which is told first. */
const buried = () =>
  waitFor(async () => ((await dead()) === 1 ? true : undefined), {
    what: 'the job among the dead letters',
    deadlineMs: 10_000,
    intervalMs: 20,
  })
const states = async (inputs: string) => (await readClaims(asker.ledger, inputs)).entries.map(({ state }) => state)
const left = async (dir: string) => readdir(join(repo.dir, '.bake', dir), { recursive: true }).catch(() => [])

test('whoever asks follows the bake as if it ran here, and gets what it made', async () => {
  const asked = await ask()
  expect(await readBuild(asker.ledger, asked.build)).toMatchObject({ status: 'queued', image: 'machine', key: asked.plan.inputs })
  worker('one')
  const told: MachineEvent[] = []
  const phases = new StepPhases()
  const record = await followBuild(asked.build, asker.ledger, {
    signal: new AbortController().signal,
    pollMs: 10,
    settled: async () => {},
    onEvent: (event) => told.push(...phases.of(event)),
  })
  const bake = await bakedElsewhere(asked, record, asker)
  expect(bake).toMatchObject({ status: 'baked', build: asked.build, machine: { document: { release: 'v1' }, n: 0 } })
  expect(record).toMatchObject({ status: 'built', worker: 'one', machine: { did: 'baked', release: 'v1' } })
  const local = told
    .filter(({ type }) => type !== 'note')
    .map((each) => ({ ...each, t: 0, ...('seconds' in each && { seconds: 0 }) }))
  const phase = (name: string) => [
    { type: 'phase', phase: name, state: 'started', t: 0 },
    { type: 'phase', phase: name, state: 'done', t: 0, seconds: 0 },
  ]
  const [began, done] = phase('install')
  const line = { type: 'line', phase: 'install', text: 'installing 1 services', t: 0 }
  expect(local).toEqual([...phase('check'), began, line, done, ...phase('proof'), ...phase('keep')])
  expect(told).toContainEqual(expect.objectContaining({ type: 'note', text: 'worker one has it' }))
  expect(bake.machine.document.phases.map((each) => each.phase)).toEqual(['install', 'proof', 'keep'])
  await emptied()
  expect(await dead()).toBe(0)
  // The run's own record leads to the same log.
  const run = await readBake(asker.ledger, bake.machine.document.build)
  expect(run && logOfBake(run)).toBe(`logs/${asked.build}/00000000`)
})

test('what is baked already is found by whoever asks, and nothing is queued', async () => {
  const { build } = await ask()
  worker('one')
  await ended(build)
  await emptied()
  const again = await askForMachine(ASK, asker)
  expect(again).toMatchObject({ status: 'found', machine: { document: { release: 'v1' } } })
  expect(await depth()).toEqual([0, 0, 0])
})

test('the end of a bake is told once whoever asked can see it', async () => {
  const asked = await ask()
  const one = worker('one')
  await ended(asked.build)
  await emptied()
  expect(one.announced).toEqual(['baked'])
})

test('asked for twice it is baked once: the other job waits without the slot, and finds it', async () => {
  const held = hold()
  const [first, second] = [await ask(), await ask()]
  const one = worker('one', { onOpen: (world) => Object.assign(world, { before: held.wait }) })
  await held.entered()
  const two = worker('two')
  await waitFor(() => (two.worlds[0]?.told && two.records.some(({ status }) => status === 'running') ? true : undefined), {
    what: 'the second to wait',
    deadlineMs: 30_000,
    intervalMs: 10,
  })
  held.release()
  const records = [await ended(first.build), await ended(second.build)]
  expect(records.map(({ machine }) => machine?.did).sort()).toEqual(['baked', 'found'])
  expect(await states(first.plan.inputs)).toEqual(['claimed', 'published'])
  expect(one.worlds.length + two.worlds.length).toBe(2)
})

describe('a bake that fails', () => {
  test('for the user’s reason has failed for everybody, with the way to its log', async () => {
    const asked = await ask()
    const onOpen = (world: TestWorld) =>
      Object.assign(world, { before: () => Promise.reject(failed('bake_failed', 'setup: no such file')) })
    const one = worker('one', { onOpen })
    const record = await ended(asked.build)
    expect(record).toMatchObject({ status: 'failed', failure: { code: 'bake_failed', exit: 3 } })
    await expect(bakedElsewhere(asked, record, asker)).rejects.toMatchObject({ code: 'bake_failed', exit: 3 })
    await emptied()
    expect(await dead()).toBe(0)
    expect(await readRelease(asker.ledger, 'v1')).toBeUndefined()
    expect(one.announced).toEqual(['bake_failed'])
  })

  test('for the world’s reason is tried three times', async () => {
    const asked = await ask()
    const onOpen = (world: TestWorld) =>
      Object.assign(world, { before: () => Promise.reject(unavailable('ec2_unreachable', 'EC2 does not answer')) })
    const one = worker('one', { onOpen })
    expect(await ended(asked.build)).toMatchObject({ status: 'failed', failure: { code: 'ec2_unreachable' } })
    expect(one.worlds).toHaveLength(3)
    await buried()
    // What is tried again is nobody's news.
    expect(one.announced).toEqual(['ec2_unreachable'])
  })

  test('with five workers, none of which told of its end, is not begun a sixth time', async () => {
    const { build, plan } = await ask()
    const record = (await readBuild(asker.ledger, build))!
    const runs = Array.from({ length: 5 }, () => newBuildId())
    await writeBuild(asker.ledger, { ...record, machine: { ...record.machine!, runs } })
    const one = worker('one')
    expect(await ended(build)).toMatchObject({ status: 'failed', failure: { code: 'workers_lost', exit: 4 } })
    expect(one.worlds).toEqual([])
    expect(await states(plan.inputs)).toEqual([])
    await buried()
    expect(one.announced).toEqual([build])
  })

  test('by taking too long is told of under the job’s own id', async () => {
    const { build } = await ask()
    const held = hold()
    const one = worker('one', { timeoutMs: 300, onOpen: (world) => Object.assign(world, { before: held.wait }) })
    await held.entered()
    setTimeout(held.release, 600)
    expect(await ended(build)).toMatchObject({ status: 'failed', failure: { code: 'bake_timed_out', exit: 5 } })
    await buried()
    expect(one.announced).toEqual([build])
  })

  test('of other inputs than the asker’s was asked for by another bake, or by nobody honest: nothing is baked', async () => {
    const asked = await ask()
    const [message] = await queue.receive('machine', { max: 1, waitSeconds: 1, visibilitySeconds: 30 })
    const job = JSON.parse(message!.body) as MachineJob
    await queue.remove(message!)
    const other = { ...job, build: newBuildId(), inputs: 'f'.repeat(64) }
    await queue.send('machine', formatBody(other))
    const one = worker('one')
    expect(await ended(other.build)).toMatchObject({ status: 'failed', failure: { code: 'inputs_mismatch', exit: 2 } })
    expect(one.worlds[0]!.baked).toEqual([])
    await buried()
    expect(await states(asked.plan.inputs)).toEqual([])
  })

  test('a job that names another’s build ends nothing', async () => {
    const asked = await ask()
    const [message] = await queue.receive('machine', { max: 1, waitSeconds: 1, visibilitySeconds: 30 })
    await queue.remove(message!)
    const parsed = parseBody(message!.body)
    if (parsed.status !== 'ok' || parsed.job.kind !== 'machine') throw new Error(message!.body)
    await queue.send('machine', formatBody({ ...parsed.job, release: 'v2' }))
    const one = worker('one')
    await buried()
    expect(one.worlds).toEqual([])
    expect(await readBuild(asker.ledger, asked.build)).toMatchObject({ status: 'queued' })
  })
})

test('images that are others than the asker found are not baked', async () => {
  const asked = { images: [{ image: 'web', repository: 'r/web', digest: 'sha256:1' }], build: 'b' } as MachineJob
  const published = (reference?: string) => async () => [{ image: 'web', ...(reference !== undefined && { reference }) }]
  const ensure = (reference?: string) =>
    jobImages(asked, { published: published(reference) }).ensure('c', ['web'], async () => {})
  expect(await ensure('r/web@sha256:1')).toMatchObject([{ image: 'web' }])
  for (const other of ['r/web@sha256:2', undefined])
    await expect(ensure(other)).rejects.toMatchObject({ code: 'images_mismatch' })
})

describe('cancelled', () => {
  test('while it waits in the queue: nobody begins it', async () => {
    const { build } = await ask()
    await requestCancel(asker.ledger, build, { by: 'ann' })
    const one = worker('one')
    expect(await ended(build)).toMatchObject({ status: 'cancelled', failure: { code: 'cancelled' } })
    await emptied()
    expect(one.worlds).toEqual([])
  })

  test('while it is baked: it stops, and nothing of it stays', async () => {
    const { build, plan } = await ask()
    const held = hold()
    worker('one', {
      onOpen: (world) => Object.assign(world, { before: () => Promise.race([held.wait(), aborted(world.signal)]) }),
    })
    await held.entered()
    await requestCancel(asker.ledger, build, { by: 'ann' })
    expect(await ended(build)).toMatchObject({ status: 'cancelled' })
    await emptied()
    expect(await states(plan.inputs)).toEqual(['claimed', 'failed'])
    expect(await left('bakes')).toEqual([])
    expect(await readRelease(asker.ledger, 'v1')).toBeUndefined()
  })

  test('while another waits for the same: it is baked for that one', async () => {
    const asked = [await ask(), await ask()]
    const held = hold()
    const one = worker('one', { onOpen: (world) => Object.assign(world, { before: held.wait }) })
    await held.entered()
    const running = one.records.at(-1)!.build
    const other = asked.find(({ build }) => build !== running)!
    await requestCancel(asker.ledger, running, { by: 'ann' })
    expect(await ended(running)).toMatchObject({ status: 'cancelled', failure: { code: 'cancelled' } })
    expect(await readRelease(asker.ledger, 'v1')).toBeUndefined()
    held.release()
    expect(await ended(other.build)).toMatchObject({ status: 'tagged', machine: { did: 'found' } })
    expect(await states(other.plan.inputs)).toEqual(['claimed', 'published'])
    expect(await readRelease(asker.ledger, 'v1')).toMatchObject({ name: 'v1' })
    await emptied()
  })
})

describe('a worker that', () => {
  test('drains finishes its bake, and takes no other', async () => {
    const { build } = await ask()
    const held = hold()
    const one = worker('one', { onOpen: (world) => Object.assign(world, { before: held.wait }) })
    await held.entered()
    one.drain.abort()
    const later = await ask({ rebake: true })
    held.release()
    await one.done
    expect(await readBuild(asker.ledger, build)).toMatchObject({ status: 'built' })
    expect(await readBuild(asker.ledger, later.build)).toMatchObject({ status: 'queued' })
  })

  test('waits for somebody’s own bake of the same inputs has its slot for others meanwhile', async () => {
    await using own = await makeAsker({ dir: repo.dir, registry: registry.host }, queue)
    const held = hold()
    own.before = held.wait
    const baking = bakeRelease(ASK, own)
    await held.entered()
    const same = await ask()
    const one = worker('one')
    await waitFor(() => (one.worlds.length === 1 ? true : undefined), { what: 'the job', deadlineMs: 30_000, intervalMs: 10 })
    await repo.commit({ 'web/content': 'two\n' })
    await repo.git('tag', 'v2')
    expect(await ended((await ask({ release: 'v2' })).build)).toMatchObject({ status: 'built', machine: { did: 'baked' } })
    expect(await readBuild(asker.ledger, same.build)).toMatchObject({ status: 'running' })
    held.release()
    expect(await ended(same.build)).toMatchObject({ status: 'tagged', machine: { did: 'found' } })
    expect(await baking).toMatchObject({ status: 'baked' })
  })

  test('drains while it waits for another’s bake hands the job back at once', async () => {
    await using own = await makeAsker({ dir: repo.dir, registry: registry.host }, queue)
    const held = hold()
    own.before = held.wait
    const baking = bakeRelease(ASK, own)
    await held.entered()
    const { build } = await ask()
    const one = worker('one')
    await waitFor(() => (one.worlds.length === 1 ? true : undefined), { what: 'the job', deadlineMs: 30_000, intervalMs: 10 })
    one.drain.abort()
    await one.done
    expect(await readBuild(asker.ledger, build)).toMatchObject({ status: 'queued', machine: { runs: [] } })
    held.release()
    await baking
    worker('two')
    expect(await ended(build)).toMatchObject({ status: 'tagged', worker: 'two' })
  })

  test('is stopped hands it back, and another bakes it', async () => {
    const { build, plan } = await ask()
    const held = hold()
    const one = worker('one', {
      onOpen: (world) => Object.assign(world, { before: () => Promise.race([held.wait(), aborted(world.signal)]) }),
    })
    await held.entered()
    one.abort.abort()
    one.drain.abort()
    await one.done
    expect(await readBuild(asker.ledger, build)).toMatchObject({ status: 'queued', machine: { runs: [] } })
    worker('two')
    expect(await ended(build)).toMatchObject({ status: 'built', worker: 'two' })
    expect(await states(plan.inputs)).toEqual(['claimed', 'failed', 'claimed', 'published'])
  })
})

/** Between which steps the worker is killed, and what the next one has to do. */
const POINTS: [string, 'baked' | 'found'][] = [
  ['received', 'baked'],
  ['machine-running', 'baked'],
  ['ami-claimed', 'baked'],
  ['ami-baked', 'baked'],
  ['ami-recorded', 'baked'],
  ['ami-published', 'found'],
  ['ami-linked', 'found'],
  ['machine-baked', 'found'],
  ['recorded', 'found'],
]

test('all that a worker told is stored before the record says that it has ended', { timeout: 120_000 }, async () => {
  const { build } = await ask()
  const env = { ...process.env, BAKE_FAILPOINT: 'recorded:kill' }
  const child = spawn(process.execPath, [CHILD, repo.dir, registry.host, endpoint, 'one'], { env, stdio: 'ignore' })
  await once(child, 'close')
  const record = await readBuild(asker.ledger, build)
  expect(record).toMatchObject({ status: 'built' })
  const chunks: string[] = []
  for (let n = 0; ; n++) {
    const bytes = await asker.ledger.chunk(logOf(record!)!, n)
    if (bytes === undefined) break
    chunks.push(Buffer.from(bytes).toString())
  }
  expect(chunks.join('')).toMatch(/"type":"end"\}\n$/)
})

describe('SIGKILL ends the worker at', () => {
  const cells = process.env.BAKE_TEST_ALL === '1' ? POINTS : POINTS.filter(([point]) => /claimed|baked|published/.test(point))
  test.each(cells)('%s: another takes the job, and one is published', { timeout: 120_000 }, async (point, did) => {
    const { build, plan } = await ask({ rebake: true })
    const env = { ...process.env, BAKE_FAILPOINT: `${point}:kill` }
    const child = spawn(process.execPath, [CHILD, repo.dir, registry.host, endpoint, 'one'], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const [, signal] = await once(child, 'close')
    expect(signal, stderr).toBe('SIGKILL')
    worker('two')
    const record = await ended(build)
    expect(record).toMatchObject({ status: did === 'baked' ? 'built' : expect.stringMatching(/built|tagged/) })
    if (point !== 'recorded') expect(record).toMatchObject({ worker: 'two', machine: { did } })
    await emptied()
    expect((await states(plan.inputs)).filter((state) => state === 'published')).toHaveLength(1)
    expect(await dead()).toBe(0)
    expect(await askForMachine(ASK, asker)).toMatchObject({ status: 'found' })

    const part = () => prunePart(localPart({ ...asker, host: hostname() }), asker.ledger, { dryRun: false })
    await part()
    await part()
    expect(await left('bakes')).toEqual([])
    expect(await left('machines')).toHaveLength(2)
  })
})

const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
