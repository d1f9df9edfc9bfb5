import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import type { NotifyDefinition } from '../../src/config.ts'
import { openHooks } from '../../src/context/hooks.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { announce, type End } from '../../src/jobs/announce.ts'
import { keys } from '../../src/names.ts'
import { startHookServer } from '../support/hook-server.ts'

let ledger: DirectoryLedger
beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-announce-'))
  ledger = new DirectoryLedger(dir)
  return () => rm(dir, { recursive: true })
})

const END: End = {
  event: 'deployed',
  at: Date.now(),
  group: 'stack-production',
  notice: {
    id: 'deployment_production_3_deployed',
    type: 'deployment.deployed',
    timestamp: '2026-11-22T10:00:00.000Z',
    data: {},
  },
  slack: { text: 'it runs v2', blocks: [] },
}
const SIGNAL = new AbortController().signal

async function tell(url: string, more: Partial<NotifyDefinition> = {}, end = END, signal = SIGNAL): Promise<string[]> {
  const problems: string[] = []
  const hooks = openHooks([{ to: { slack: { url } }, on: ['deployed'], images: [], branches: [], ...more }], {})
  await announce(end, { ledger, hooks, signal, pausesMs: [1], onProblem: (text) => problems.push(text) })
  return problems
}

test('an end is told once, whoever comes by', async () => {
  await using server = await startHookServer()
  await Promise.all([tell(server.url), tell(server.url)])
  expect(await tell(server.url)).toEqual([])
  expect(server.calls.map(({ body }) => JSON.parse(body))).toEqual([END.slack])
})

test('one whose teller was killed is told by the next one, who waits as long as it may take', async () => {
  await using server = await startHookServer()
  const { id } = END.notice
  await ledger.put(keys.notice(id), { version: 1, id, at: Date.now(), done: false })
  await tell(server.url)
  expect(server.calls).toEqual([])
  await ledger.put(keys.notice(id), { version: 1, id, at: Date.now() - 61_000, done: false })
  await tell(server.url)
  expect(server.calls).toHaveLength(1)
})

test('what fails is tried once more, then given up with a word', async () => {
  await using server = await startHookServer((_, response) => void response.writeHead(503).end())
  expect(await tell(server.url)).toEqual([
    expect.stringMatching(/^notify\.0 \(slack\) was not told of deployment\.deployed in 2 tries: 127.*answered 503/),
  ])
  expect(server.calls).toHaveLength(2)
  await tell(server.url)
  expect(server.calls).toHaveLength(2)
})

test.each<[string, Partial<NotifyDefinition>, Partial<End>]>([
  ['of another event', { on: ['baked', 'failed'] }, {}],
  ['that asks for builds of an image', { images: ['web'] }, {}],
  ['that asks for builds of a branch', { branches: ['main'] }, {}],
  ['of what ended the day before yesterday', {}, { at: Date.now() - 2 * 86_400_000 }],
])('nothing goes to an entry %s, and nothing is noted', async (_, more, end) => {
  await using server = await startHookServer()
  expect(await tell(server.url, more, { ...END, ...end })).toEqual([])
  expect(server.calls).toEqual([])
  expect(await ledger.list('')).toEqual([])
})

test('whoever is stopped leaves it to the next one', async () => {
  await using server = await startHookServer()
  await tell(server.url, {}, END, AbortSignal.abort())
  await tell(server.url)
  expect(server.calls).toHaveLength(1)
})

test('a ledger that can’t be written to is told, and nothing else happens', async () => {
  ledger.create = () => Promise.reject(new Error('no room'))
  expect(await tell('http://127.0.0.1:1/')).toEqual(['notify: no room'])
})
