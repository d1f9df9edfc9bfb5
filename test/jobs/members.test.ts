import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { unavailable } from '../../src/errors.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { Heartbeat } from '../../src/jobs/heartbeat.ts'
import { Member, Members } from '../../src/jobs/members.ts'
import type { WorkerDocument } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'

let root: string
let ledger: DirectoryLedger
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'bake-members-'))
  ledger = new DirectoryLedger(root)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const LEASE_MS = 3_000
const documentOf = (name: string, more: Partial<WorkerDocument> = {}): WorkerDocument => ({
  version: 1,
  name,
  owner: `${name}.1`,
  bake: '0.1.0',
  platform: 'linux/amd64',
  state: 'ready',
  slots: 2,
  leaseMs: LEASE_MS,
  startedAt: 0,
  at: Date.now(),
  shards: [0],
  running: [],
  warm: [],
  counts: { built: 0, tagged: 0, failed: 0 },
  ...more,
})
const quiet = (text: string) => {
  throw new Error(text)
}
const names = async (members: Members) => (await members.live()).map(({ name }) => name)

test('who beats and has not ended is live; who stops beating is not, without a word of its own', async () => {
  const [a, b] = [new Heartbeat(ledger, 'a.1', { leaseMs: LEASE_MS }), new Heartbeat(ledger, 'b.1', { leaseMs: LEASE_MS })]
  await Promise.all([a.start(), b.start()])
  for (const name of ['a', 'b', 'never-beat']) await ledger.put(keys.worker(name), documentOf(name))
  await ledger.put(keys.worker('gone'), documentOf('gone', { owner: 'b.1', state: 'ended' }))
  const members = new Members(ledger)
  expect(await names(members)).toEqual(['a', 'b'])
  // As with SIGKILL.
  await b.stop()
  await waitFor(async () => ((await names(members)).join() === 'a' ? true : undefined), {
    what: 'b to be dead',
    deadlineMs: 30_000,
    intervalMs: 100,
  })
  const seen = await new Members(ledger).look()
  expect(seen.find(({ document }) => document.name === 'b')).toMatchObject({ alive: false, document: { state: 'ready' } })
  expect(seen.find(({ document }) => document.name === 'b')!.beatAgeMs).toBeGreaterThanOrEqual(LEASE_MS)
  await a.stop()
})

test('a member that was gone is seen again after a while', async () => {
  await ledger.put(keys.worker('a'), documentOf('a', { state: 'ended' }))
  const members = new Members(ledger, { goneLookMs: 50 })
  expect(await names(members)).toEqual([])
  await using beat = new Heartbeat(ledger, 'a.2', { leaseMs: 60_000 })
  await beat.start()
  await ledger.put(keys.worker('a'), documentOf('a', { owner: 'a.2', leaseMs: 60_000 }))
  await sleep(60)
  expect(await names(members)).toEqual(['a'])
})

test('what is no document of a worker is passed over', async () => {
  await ledger.put(keys.worker('strange'), { version: 9 })
  expect(await new Members(ledger).look()).toEqual([])
})

test('many changes are few writes, the last state is what stays, and the end is written', async () => {
  let slots = 0
  let puts = 0
  const counting = Object.assign(Object.create(ledger) as DirectoryLedger, {
    put: async (at: string, document: object) => {
      puts++
      await ledger.put(at, document)
    },
    create: ledger.create.bind(ledger),
  })
  {
    await using member = new Member(counting, () => documentOf('a', { slots }), quiet)
    for (slots = 1; slots < 500; slots++) {
      member.changed()
      if (slots % 50 === 0) await sleep(20)
    }
    await waitFor(async () => (((await ledger.get(keys.worker('a'))) as WorkerDocument).slots === 500 ? true : undefined), {
      what: 'the last state',
      deadlineMs: 30_000,
      intervalMs: 50,
    })
    expect(puts).toBeLessThanOrEqual(4)
    slots = 501
  }
  expect(await ledger.get(keys.worker('a'))).toMatchObject({ slots: 501 })
})

test('a ledger that fails is told of once, and the worker goes on', async () => {
  const told: string[] = []
  let broken = true
  const failing = Object.assign(Object.create(ledger) as DirectoryLedger, {
    put: async (at: string, document: object) => {
      if (broken) throw unavailable('ledger_unreachable', 'no ledger today')
      await ledger.put(at, document)
    },
  })
  await using member = new Member(
    failing,
    () => documentOf('a'),
    (text) => told.push(text),
  )
  await member.flush()
  await member.flush()
  expect(told).toEqual([expect.stringContaining('no ledger today')])
  broken = false
  await member.flush()
  expect(await ledger.get(keys.worker('a'))).toMatchObject({ name: 'a' })
})
