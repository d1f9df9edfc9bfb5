import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { refused } from '../../src/errors.ts'
import { buildImage } from '../../src/image/build.ts'
import type { ImageWorld } from '../../src/image/world.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import type { Message, Queue } from '../../src/io/queue.ts'
import { Journal } from '../../src/jobs/held.ts'
import { parseBody } from '../../src/jobs/job.ts'
import { receiveLoop } from '../../src/jobs/loop.ts'
import { buildRecordSchema } from '../../src/jobs/records.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { keys, newBuildId } from '../../src/names.ts'
import { mutations } from '../support/mutations.ts'

const BODIES = 10_000

/** Gives each body once and notes what became of it. A real queue takes 10,000 in half a minute, and refuses some of these (faults-queue.test.ts sends it fifty). */
function feed(bodies: string[], done: () => void): { queue: Queue; fates: Map<string, string> } {
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
      if (lane === 'high' || given === bodies.length) {
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

  expect(fates.size).toBe(BODIES)
  const allowed = {
    ok: /^(buried: (repository_not_allowed|job_mismatch)|removed)$/,
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
  expect(touched).toEqual([])
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
})
