import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { takeTurn } from '../../src/image/turn.ts'
import type { ImageWorld, Lease } from '../../src/image/world.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { append, Claims } from '../../src/jobs/claims.ts'
import type { ImageJob } from '../../src/jobs/job.ts'
import type { Tools } from '../../src/jobs/loop.ts'
import { keys, newBuildId } from '../../src/names.ts'

const LEASE_MS = 600
const [DEAD, ME] = ['other.1', 'me.1']

let dir: string
let world: ImageWorld
let job: ImageJob
const never = new AbortController().signal

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-turn-'))
  // All that a turn takes of a worker.
  world = {
    ledger: new DirectoryLedger(dir),
    worker: 'me',
    leaseMs: LEASE_MS,
    pollMs: 5,
    supersede: false,
    room: async () => 'room' as const,
  } as Partial<ImageWorld> as ImageWorld
  const about = { project: 'p', repository: '/r', config: 'bake.yaml', commit: 'b'.repeat(40), image: 'web', key: 'a'.repeat(64) }
  job = { version: 1, kind: 'image', build: newBuildId(), ...about, pins: [], priority: 'normal', rebuild: false }
  const claim = { state: 'claimed', build: job.build, owner: DEAD, leaseMs: LEASE_MS } as const
  await append(world.ledger, new Claims(job.key, []), claim)
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(dir, { recursive: true, maxRetries: 5 })
})

const lease: Lease = { owner: ME, lost: never, check() {} }
const place = { slot: async () => ({ index: 0, release() {} }), wait: () => true }
const turn = (onWait = async () => {}) => {
  const abort = AbortSignal.timeout(10_000)
  return takeTurn(job, lease, world, { receives: 1, abort, drain: never, place } as Tools, onWait)
}

test('a claim whose holder dies while it is waited for is taken over', async () => {
  await world.ledger.touch(keys.beat(DEAD))
  const waits: unknown[] = []
  const taken = await turn(async () => void waits.push('waits'))
  expect(taken).toMatchObject({ kind: 'build', n: 1 })
  expect(waits).toHaveLength(1)
})

test('a claim of a dead holder is taken over at once by a process that has only just begun', async () => {
  const begun = performance.now()
  vi.spyOn(performance, 'now').mockImplementation(() => Date.now() - performance.timeOrigin - begun)
  expect(await turn(() => Promise.reject(new Error('it waits for a dead worker')))).toMatchObject({ kind: 'build', n: 1 })
})

test('a holder that beats is waited for', async () => {
  const alive = new AbortController()
  const beating = (async () => {
    while (!alive.signal.aborted) {
      await world.ledger.touch(keys.beat(DEAD))
      await sleep(50)
    }
  })()
  let ended = false
  const taking = turn().finally(() => {
    ended = true
  })
  await sleep(3 * LEASE_MS)
  expect(ended).toBe(false)
  alive.abort()
  await beating
  expect(await taking).toMatchObject({ kind: 'build', n: 1 })
})
