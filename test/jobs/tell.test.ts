import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { NotifyDefinition } from '../../src/config.ts'
import { openHooks } from '../../src/context/hooks.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import type { Tools, Verdict } from '../../src/jobs/loop.ts'
import { noticeOf } from '../../src/jobs/notify.ts'
import { type BuildRecord, writeBuild } from '../../src/jobs/records.ts'
import { Teller, type TellWorld } from '../../src/jobs/tell.ts'
import { keys } from '../../src/names.ts'
import { startHookServer } from '../support/hook-server.ts'

const BUILD = 'ybr15gj57-3fgtss'
const REMOVE: Verdict = { do: 'remove' }
const RECORD: BuildRecord = {
  version: 1,
  build: BUILD,
  project: 'shop',
  repository: '/srv/shop',
  config: 'bake.yaml',
  commit: '1'.repeat(40),
  image: 'web',
  key: 'a'.repeat(64),
  priority: 'normal',
  rebuild: false,
  status: 'failed',
  askedAt: 1_000,
  startedAt: 2_000,
  endedAt: 3_000,
  failure: { kind: 'user', code: 'dockerfile_failed', message: 'it failed\nlast line', exit: 3 },
}

let dir: string
let ledger: DirectoryLedger
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-tell-'))
  ledger = new DirectoryLedger(join(dir, 'ledger'))
  await writeBuild(ledger, RECORD)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const tools = (more: Partial<Tools> = {}): Tools => ({
  place: { slot: () => Promise.reject(new Error('no slot is needed')), wait: () => true },
  abort: new AbortController().signal,
  drain: new AbortController().signal,
  receives: 1,
  ...more,
})

function teller(to: NotifyDefinition['to'][], more: Partial<TellWorld> & { env?: NodeJS.ProcessEnv } = {}) {
  const problems: string[] = []
  const notify = to.map((each) => ({ to: each, on: ['failed' as const], images: [], branches: [] }))
  const { env = {}, ...world } = more
  const it = new Teller({
    ledger,
    hooks: openHooks(notify, env),
    leaseMs: 20_000,
    owner: () => 'me.1',
    onProblem: (text) => problems.push(text),
    pausesMs: [10, 10, 10],
    ...world,
  })
  return { problems, after: (verdict = REMOVE, more?: Partial<Tools>) => it.after(verdict, BUILD, tools(more)) }
}

describe('the end of a build is told', () => {
  test('once, whatever is delivered again', async () => {
    await using server = await startHookServer()
    const one = teller([{ slack: { url: `${server.url}/a` } }])
    expect(await one.after()).toEqual(REMOVE)
    expect(await one.after()).toEqual(REMOVE)
    expect(await teller([{ slack: { url: `${server.url}/a` } }], { owner: () => 'other.1' }).after()).toEqual(REMOVE)
    expect(server.calls).toHaveLength(1)
    expect(JSON.parse(server.calls[0]!.body).text).toContain('*shop/web* failed')
  })

  test('to every hook that wants it, signed where it is to be', async () => {
    await using server = await startHookServer()
    const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
    const env = { URL: `${server.url}/signed`, SECRET: `${secret} whsec_${Buffer.alloc(24, 8).toString('base64')}` }
    await teller([{ webhook: { env: 'URL' }, secretEnv: 'SECRET' }, { slack: { url: `${server.url}/slack` } }], { env }).after()
    expect(server.calls.map(({ path }) => path).sort()).toEqual(['/signed', '/slack'])
    const signed = server.calls.find(({ path }) => path === '/signed')!
    expect(JSON.parse(signed.body)).toEqual(noticeOf(RECORD))
    expect(signed.headers['webhook-id']).toBe(`bake_${BUILD}_failed`)
    expect(String(signed.headers['webhook-signature']).split(' ')).toHaveLength(2)
  })

  test('again after a 500, under the same id', async () => {
    await using server = await startHookServer((call, response) => void response.writeHead(call < 2 ? 500 : 200).end())
    const env = { S: `whsec_${Buffer.alloc(32).toString('base64')}` }
    const { after, problems } = teller([{ webhook: { url: server.url }, secretEnv: 'S' }], { env })
    expect(await after()).toEqual(REMOVE)
    expect(new Set(server.calls.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(server.calls).toHaveLength(3)
    expect(problems).toEqual([])
  })

  test('by the next worker when one was killed before it was done', async () => {
    await using server = await startHookServer()
    await ledger.create(keys.notice(BUILD), { version: 1, build: BUILD, owner: 'dead.1', leaseMs: 20_000, at: 1, done: false })
    expect(await teller([{ slack: { url: server.url } }]).after()).toEqual(REMOVE)
    expect(server.calls).toHaveLength(1)
  })
})

describe('nobody is told', () => {
  test('while another who lives is at it: the message comes back', async () => {
    await using server = await startHookServer()
    await ledger.touch(keys.beat('other.1'))
    await ledger.create(keys.notice(BUILD), { version: 1, build: BUILD, owner: 'other.1', leaseMs: 20_000, at: 1, done: false })
    expect(await teller([{ slack: { url: server.url } }]).after()).toEqual({ do: 'release', inSeconds: 5 })
    expect(server.calls).toEqual([])
  })

  test('of a build that goes on, or of an end that no hook wants', async () => {
    await using server = await startHookServer()
    const { after } = teller([{ slack: { url: server.url } }])
    expect(await after({ do: 'release', inSeconds: 2 })).toEqual({ do: 'release', inSeconds: 2 })
    await writeBuild(ledger, { ...RECORD, status: 'running' })
    expect(await after()).toEqual(REMOVE)
    await writeBuild(ledger, { ...RECORD, status: 'built' })
    expect(await after()).toEqual(REMOVE)
    expect(server.calls).toEqual([])
    expect(await ledger.get(keys.notice(BUILD))).toBeUndefined()
  })

  test('where too many wait already: the message comes back, and the slot is not kept', async () => {
    await using server = await startHookServer()
    const place = { slot: tools().place.slot, wait: () => false }
    const { after } = teller([{ slack: { url: server.url } }])
    expect(await after(REMOVE, { place })).toEqual({ do: 'release', inSeconds: 5 })
    expect(await after(REMOVE)).toEqual(REMOVE)
    expect(server.calls).toHaveLength(1)
  })

  test('but of what goes to the dead letters, which has no other delivery: it is told all the same', async () => {
    await using server = await startHookServer()
    const place = { slot: tools().place.slot, wait: () => false }
    const bury: Verdict = { do: 'bury', reason: 'x' }
    expect(await teller([{ slack: { url: server.url } }]).after(bury, { place })).toEqual(bury)
    expect(server.calls).toHaveLength(1)
  })
})

describe('a hook that fails', () => {
  test('is given up after a few tries, told of as a problem without its URL, and tried no more', async () => {
    await using server = await startHookServer((_, response) => void response.writeHead(503).end('/SECRET/path is down'))
    const { after, problems } = teller([{ slack: { url: `${server.url}/SECRET/path` } }])
    expect(await after()).toEqual(REMOVE)
    expect(await after()).toEqual(REMOVE)
    expect(server.calls).toHaveLength(4)
    expect(problems).toEqual([
      expect.stringMatching(new RegExp(`^notify\\.0 \\(slack\\) was not told of build ${BUILD} .* 4 tries`)),
    ])
    expect(problems.join()).not.toContain('SECRET')
  })

  test.each([
    ['refuses', 'X', /answered 404/],
    ['has no URL', undefined, /NO_URL is not set where bake runs/],
  ])('or %s, is not tried again', async (_name, set, problem) => {
    await using server = await startHookServer((_, response) => void response.writeHead(404).end())
    const { after, problems } = teller([{ slack: { env: 'NO_URL' } }], { env: set ? { NO_URL: server.url } : {} })
    expect(await after()).toEqual(REMOVE)
    expect(server.calls.length).toBeLessThanOrEqual(1)
    expect(problems).toEqual([expect.stringMatching(problem)])
  })

  test('leaves what it was to be told with another worker when this one drains', async () => {
    const drain = new AbortController()
    await using server = await startHookServer((_, response) => {
      drain.abort()
      response.writeHead(500).end()
    })
    const { after, problems } = teller([{ slack: { url: server.url } }])
    expect(await after(REMOVE, { drain: drain.signal })).toEqual({ do: 'release', inSeconds: 0 })
    expect(await after({ do: 'bury', reason: 'x' }, { drain: drain.signal })).toEqual({ do: 'bury', reason: 'x' })
    expect(problems).toEqual([])
  })

  test('and never answers, is left at once by a worker that is killed off', async () => {
    const abort = new AbortController()
    await using server = await startHookServer(() => abort.abort())
    expect(await teller([{ slack: { url: server.url } }]).after(REMOVE, { abort: abort.signal })).toEqual({
      do: 'release',
      inSeconds: 0,
    })
  })

  test('with a ledger that fails too: the message comes back, but not for ever', async () => {
    await using server = await startHookServer()
    await ledger.put(keys.build(BUILD), { version: 2 })
    const { after, problems } = teller([{ slack: { url: server.url } }])
    expect(await after()).toEqual({ do: 'release', inSeconds: 5 })
    expect(await after(REMOVE, { receives: 8 })).toEqual(REMOVE)
    expect(problems).toHaveLength(2)
  })
})
