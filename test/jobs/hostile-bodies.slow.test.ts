import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bakeMachineJob } from '../../src/ami/job.ts'
import type { MachineJobWorld } from '../../src/ami/job-world.ts'
import { refused } from '../../src/errors.ts'
import { buildImage } from '../../src/image/build.ts'
import type { ImageWorld } from '../../src/image/world.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import type { Lane, Message, Queue } from '../../src/io/queue.ts'
import { Journal } from '../../src/jobs/held.ts'
import { parseBody } from '../../src/jobs/job.ts'
import { receiveLoop } from '../../src/jobs/loop.ts'
import { receiveBakes } from '../../src/jobs/receive-bakes.ts'
import { buildRecordSchema } from '../../src/jobs/records.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { keys, newBuildId } from '../../src/names.ts'
import { mutations } from '../support/mutations.ts'

const BODIES = 10_000

/** Gives each body once, to whoever asks lane `of`, and notes what became of it. A real queue takes 10,000 in half a minute, and refuses some of these (faults-queue.test.ts sends it fifty). */
function feed(bodies: string[], done: () => void, of: Lane = 'normal'): { queue: Queue; fates: Map<string, string> } {
  const fates = new Map<string, string>()
  let given = 0
  const settle = (message: Message, fate: string) => {
    // Settled twice is settled wrongly.
    fates.set(message.id, fates.has(message.id) ? `${fates.get(message.id)}, then ${fate}` : fate)
    if (fates.size === bodies.length) done()
  }
  const queue: Queue = {
    shards: 1,
    send: async () => {},
    async receive(lane, { max, waitSeconds, signal }) {
      if (lane !== of || given === bodies.length) {
        // As a long poll that brings nothing.
        if (waitSeconds > 0)
          await new Promise((resolve) => (signal?.aborted ? resolve(0) : signal?.addEventListener('abort', resolve)))
        return []
      }
      const first = given
      const some = bodies.slice(first, first + max)
      given += some.length
      return some.map((body, n) => ({
        ...{ lane, shard: 0, id: `message-${first + n}`, body, receipt: `${first + n}`, receives: 1, sentAtMs: Date.now() },
      }))
    },
    renew: async (message, seconds) => settle(message, `left for ${seconds} s`),
    remove: async (message) => settle(message, 'removed'),
    bury: async (message, reason) => settle(message, `buried: ${reason}`),
    depth: async () => ({ visible: 0, inFlight: 0, delayed: 0, dead: 0 }),
    depths: async () => [],
    settled: async () => {},
    close: () => {},
  }
  return { queue, fates }
}

/** A worker that may build no repository at all; whatever else a job reaches for fails the test. */
function closedWorld(ledger: DirectoryLedger, touched: string[]): ImageWorld {
  const known: Partial<ImageWorld> = {
    ledger,
    supersede: true,
    worker: 'closed',
    onProblem: () => {},
    source: (repository) => {
      throw refused('repository_not_allowed', `this worker doesn't build ${repository}`)
    },
  }
  return new Proxy(known as ImageWorld, {
    get(target, name, receiver) {
      if (!(name in target) && name !== 'onRecord') touched.push(String(name))
      return Reflect.get(target, name, receiver)
    },
  })
}

test('10,000 bodies of a fuzzer through loop, parser and handler: each is buried or left, nothing runs', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-hostile-'))
  await using _dir = { [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) }
  const job = {
    ...{ version: 1, kind: 'image', build: newBuildId(), project: 'shop', repository: '/srv/shop', config: 'bake.yaml' },
    ...{ commit: 'a'.repeat(40), image: 'web', key: 'b'.repeat(64), branch: 'main', priority: 'normal', rebuild: false },
    pins: [{ reference: 'debian:12', digest: `sha256:${'c'.repeat(64)}` }],
  }
  const bodies = [...mutations(JSON.stringify(job), BODIES, 3)]
  const ledger = new DirectoryLedger(join(dir, 'ledger'))
  const touched: string[] = []
  const problems: string[] = []
  const drain = new AbortController()
  const { queue, fates } = feed(bodies, () => drain.abort())
  const world = closedWorld(ledger, touched)
  await receiveLoop({
    queue,
    slots: new Slots(10),
    journal: new Journal(join(dir, 'held')),
    handlers: { image: (each, tools) => buildImage(each, world, tools) },
    visibilitySeconds: 60,
    drain: drain.signal,
    abort: new AbortController().signal,
    once: false,
    onProblem: (text) => problems.push(text),
  })

  expectFates(bodies, fates, /^(buried: (repository_not_allowed|job_mismatch)|removed)$/)
  expect(touched).toEqual([])
  await expectRecords(bodies, problems, ledger)
})

const machineJob = () => {
  const image = { image: 'web', repository: 'r.example.org/shop/web', digest: `sha256:${'c'.repeat(64)}` }
  return {
    ...{ version: 1, kind: 'machine', build: newBuildId(), project: 'shop', repository: '/srv/shop', config: 'bake.yaml' },
    ...{ commit: 'a'.repeat(40), release: 'v1', variant: 0, inputs: 'b'.repeat(64), base: 'ami-0123456789abcdef0' },
    ...{ images: [image], standIns: [image], verify: true, since: 3, makeDefault: false, by: 'ann@laptop' },
  }
}

/** A worker that bakes, and may bake no repository at all. */
function closedBakes(ledger: DirectoryLedger, touched: string[]): MachineJobWorld {
  return {
    ...{ ledger, worker: 'closed', pollMs: 10, timeoutMs: 60_000 },
    onProblem: (text) => void touched.push(text),
    async open({ repository }) {
      throw refused('repository_not_allowed', `this worker doesn't build ${repository}`)
    },
  }
}

test('10,000 bodies of a fuzzer through the bakes’ queue: each is buried or left, nothing runs', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-hostile-'))
  await using _dir = { [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) }
  const bodies = [...mutations(JSON.stringify(machineJob()), BODIES, 5)]
  const ledger = new DirectoryLedger(join(dir, 'ledger'))
  const [touched, problems]: [string[], string[]] = [[], []]
  const drain = new AbortController()
  const { queue, fates } = feed(bodies, () => drain.abort(), 'machine')
  const world = closedBakes(ledger, touched)
  await receiveLoop({
    ...{ queue, slots: new Slots(10), journal: new Journal(join(dir, 'held')), visibilitySeconds: 60, once: false },
    ...{ drain: drain.signal, abort: new AbortController().signal, receive: receiveBakes },
    handlers: { machine: (each, tools) => bakeMachineJob(each, world, tools) },
    onProblem: (text) => problems.push(text),
  })

  expectFates(bodies, fates, /^(buried: (repository_not_allowed|job_mismatch)|removed)$/)
  expect(touched.filter((text) => !/is another one's: sent to the dead letters/.test(text))).toEqual([])
  await expectRecords(bodies, problems, ledger)
})

test('a job in a queue that isn’t its kind’s is left alone, and begins nothing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-hostile-'))
  await using _dir = { [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) }
  const problems: string[] = []
  const drain = new AbortController()
  const { queue, fates } = feed([JSON.stringify(machineJob())], () => drain.abort())
  await receiveLoop({
    ...{ queue, slots: new Slots(1), journal: new Journal(join(dir, 'held')), visibilitySeconds: 60, once: false },
    ...{ drain: drain.signal, abort: new AbortController().signal },
    handlers: { image: () => Promise.reject(new Error('it was begun')) },
    onProblem: (text) => problems.push(text),
  })
  expect([...fates.values()]).toEqual(['left for 60 s'])
  expect(problems).toEqual(["message message-0 has job kind machine, which isn't for queue normal: left alone"])
})

function expectFates(bodies: string[], fates: ReadonlyMap<string, string>, ok: RegExp): void {
  expect(fates.size).toBe(BODIES)
  const allowed = {
    ok,
    invalid: /^buried: (?!repository_not_allowed)/,
    'unknown-version': /^left for 60 s$/,
    'unknown-kind': /^left for 60 s$/,
  }
  const seen = { ok: 0, invalid: 0, 'unknown-version': 0, 'unknown-kind': 0 }
  const wrong = bodies.flatMap((body, n) => {
    const { status } = parseBody(body)
    seen[status]++
    const fate = fates.get(`message-${n}`) ?? 'nothing'
    return allowed[status].test(fate) ? [] : [`${fate}: ${body.slice(0, 500)}`]
  })
  expect(wrong).toEqual([])
  expect(seen.invalid).toBeGreaterThan(BODIES / 2)
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(0)
}

async function expectRecords(bodies: string[], problems: string[], ledger: DirectoryLedger): Promise<void> {
  // One problem per body that is no job: none of another kind.
  expect(problems.filter((text) => !/is no job \(|newer than this worker/.test(text))).toEqual([])
  expect(process.getActiveResourcesInfo()).not.toContain('ProcessWrap')
  // Only what is a job in every field has a record, and it says why nothing was done.
  const records = await Promise.all((await ledger.list(keys.builds)).map((name) => ledger.get(name)))
  const jobs = new Set(
    bodies.flatMap((body) => [parseBody(body)].flatMap((each) => (each.status === 'ok' ? each.job.build : []))),
  )
  expect(records).toHaveLength(jobs.size)
  for (const record of records.map((value) => buildRecordSchema.parse(value)))
    expect(record).toMatchObject({ status: 'failed', failure: { code: 'repository_not_allowed' } })
  expect(await ledger.list('claims/')).toEqual([])
}
