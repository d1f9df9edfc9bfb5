import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { cancellationOf, endCancelled, liveAskers, noteAsker, requestCancel } from '../../src/jobs/askers.ts'
import { type BuildRecord, readBuild, writeBuild } from '../../src/jobs/records.ts'
import { keys, newBuildId } from '../../src/names.ts'

const KEY = 'b'.repeat(64)
const DAY_MS = 24 * 3600_000
let root: string
let ledger: DirectoryLedger
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'bake-askers-'))
  ledger = new DirectoryLedger(root)
})
afterEach(() => rmSync(root, { recursive: true }))

const record = (build: string, more: Partial<BuildRecord> = {}): BuildRecord => ({
  ...{ version: 1, build, project: 'shop', repository: '/srv/shop', config: 'bake.yaml', commit: 'a'.repeat(40), image: 'web' },
  ...{ key: KEY, priority: 'normal', rebuild: false, status: 'queued', askedAt: 1, ...more },
})

async function asker(more?: Partial<BuildRecord>, atMs?: number): Promise<string> {
  const build = newBuildId(atMs)
  await noteAsker(ledger, { key: KEY, build })
  if (more) await writeBuild(ledger, record(build, more))
  return build
}

describe('who asks for a key', () => {
  test('is everybody but oneself that neither ended nor cancelled, also with a record that is damaged or still to come', async () => {
    const self = await asker({})
    const open = [await asker({}), await asker({ status: 'waiting' }), await asker({ status: 'running' })]
    for (const status of ['built', 'tagged', 'failed', 'cancelled', 'superseded'] as const) await asker({ status })
    await requestCancel(ledger, await asker({}), { by: 'ann@laptop' })
    const coming = await asker()
    const damaged = await asker({})
    writeFileSync(join(root, keys.build(damaged)), '{')
    expect(await liveAskers(ledger, KEY, self)).toEqual([...open, coming, damaged].sort())
    expect(await liveAskers(ledger, 'c'.repeat(64), self)).toEqual([])
  })

  test('is nobody whose message the queue has dropped by now', async () => {
    await asker({}, Date.now() - 6 * DAY_MS)
    const waiting = await asker({}, Date.now() - 3 * DAY_MS)
    expect(await liveAskers(ledger, KEY, 'none')).toEqual([waiting])
  })

  test('is noted once', async () => {
    const build = await asker({})
    await noteAsker(ledger, { key: KEY, build })
    expect(await liveAskers(ledger, KEY, 'none')).toEqual([build])
  })
})

describe('a cancellation', () => {
  test('says who and, when it was forced, with what; the first word stays', async () => {
    const build = await asker({})
    expect(await cancellationOf(ledger, build)).toBeUndefined()
    await requestCancel(ledger, build, { by: 'ann@laptop', forcedBy: 'ybr15gj57-3fgtss' })
    await requestCancel(ledger, build, { by: 'bob@desk' })
    expect(await cancellationOf(ledger, build)).toMatchObject({
      ...{ kind: 'user', code: 'cancelled', exit: 3 },
      message: `build ${build} was cancelled by ann@laptop, with everything that asked for the same inputs (bake cancel ybr15gj57-3fgtss --force)`,
    })
  })

  test('of an older version of bake, which says nothing more, counts', async () => {
    const build = await asker({})
    await ledger.create(keys.cancel(build), { version: 1, nonce: 'x', at: 1 })
    expect(await cancellationOf(ledger, build)).toMatchObject({ message: `build ${build} was cancelled` })
  })

  test('ends a record that no worker ended, and leaves an end alone', async () => {
    const leader = { build: 'ybr15gj57-3fgtss', claim: 0 }
    const waiting = await asker({ status: 'waiting', leader })
    expect((await endCancelled(ledger, waiting))?.status).toBe('waiting')
    await requestCancel(ledger, waiting, {})
    expect((await endCancelled(ledger, waiting))?.status).toBe('cancelled')
    const ended = await readBuild(ledger, waiting)
    expect(ended).toMatchObject({ status: 'cancelled', failure: { code: 'cancelled' }, endedAt: expect.any(Number) })
    expect(ended?.leader).toBeUndefined()
    const built = await asker({ status: 'built' })
    await requestCancel(ledger, built, {})
    expect((await endCancelled(ledger, built))?.status).toBe('built')
    expect((await readBuild(ledger, built))?.status).toBe('built')
  })
})
