import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { unavailable } from '../../src/errors.ts'
import { buildImage } from '../../src/image/build.ts'
import { giveUp, MAX_DELIVERIES, settle } from '../../src/image/give-up.ts'
import { openRecord } from '../../src/image/job-record.ts'
import type { ImageWorld } from '../../src/image/world.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { append, Claims, readClaims } from '../../src/jobs/claims.ts'
import type { ImageJob } from '../../src/jobs/job.ts'
import type { Tools } from '../../src/jobs/loop.ts'
import { readBuild } from '../../src/jobs/records.ts'
import { newBuildId } from '../../src/names.ts'

let dir: string
let world: ImageWorld
let job: ImageJob
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-give-up-'))
  // All that ending a job takes of a worker.
  world = { ledger: new DirectoryLedger(dir), worker: 'w', supersede: false, onProblem() {} } as Partial<ImageWorld> as ImageWorld
  const key = 'a'.repeat(64)
  const about = { project: 'p', repository: '/r', config: 'bake.yaml', commit: 'b'.repeat(40), image: 'web', key }
  job = { version: 1, kind: 'image', build: newBuildId(), ...about, pins: [], priority: 'normal', rebuild: false }
})
// A record's first notes of its asker are written beside it.
afterEach(() => rm(dir, { recursive: true, maxRetries: 5 }))

const running = { aborted: false } as AbortSignal
const tools = (receives: number): Tools => ({ receives, abort: running, drain: running }) as Partial<Tools> as Tools
const leaseLost = unavailable('lease_lost', 'w.1 sent no heartbeat to the ledger for 20 s')

test('a lost lease counts no attempt, however often a job meets one', async () => {
  const record = (await openRecord(job, world))!
  for (let receives = 1; receives <= 20; receives++)
    expect(await settle(leaseLost, record, world, tools(receives))).toMatchObject({ do: 'release' })
  expect(record.ended).toBe(false)
})

test('a lease that is lost right before publishing hands the build back as released', async () => {
  const record = (await openRecord(job, world))!
  const claim = { state: 'claimed', build: job.build, owner: 'w.1', leaseMs: 20_000 } as const
  const claims = (await append(world.ledger, new Claims(job.key, []), claim))!
  const log = { tell() {}, redact: (text: string) => text }
  expect(await giveUp(leaseLost, record, claims, 'w.1', world, log)).toEqual({ do: 'release', inSeconds: 0 })
  const after = await readClaims(world.ledger, job.key)
  expect(after.head).toMatchObject({ state: 'failed', cause: 'released' })
  expect(after.worldFailures(job.build)).toBe(0)
})

test("outside a claim the record counts the world's failures, not deliveries for other reasons", async () => {
  const failure = unavailable('registry_unreachable', 'the registry does not answer')
  const record = (await openRecord(job, world))!
  for (let attempt = 1; attempt <= 4; attempt++) {
    expect(await settle(failure, record, world, tools(100 + attempt))).toMatchObject({ do: 'release' })
    expect((await readBuild(world.ledger, job.build))?.retry).toMatchObject({ attempt, of: 5 })
  }
  expect(await settle(failure, record, world, tools(200))).toEqual({ do: 'bury', reason: 'registry_unreachable' })
  expect(await readBuild(world.ledger, job.build)).toMatchObject({ status: 'failed', failure: { code: 'registry_unreachable' } })
})

test('a message past the receive limit ends with a record, before SQS takes it away', async () => {
  expect(await buildImage(job, world, tools(MAX_DELIVERIES + 1))).toEqual({ do: 'bury', reason: 'received_too_often' })
  const record = await readBuild(world.ledger, job.build)
  expect(record).toMatchObject({
    status: 'failed',
    failure: { code: 'received_too_often', next: expect.stringContaining('retry') },
  })
})
