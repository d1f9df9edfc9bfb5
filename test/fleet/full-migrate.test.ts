import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { unavailable } from '../../src/errors.ts'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import type { NewStep } from '../../src/fleet/deployments.ts'
import { migrateOnce } from '../../src/fleet/full-migrate.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { refusal } from '../support/full-group-double.ts'
import { begun, claim, worldOf } from '../support/full-log.ts'

let ledger: DirectoryLedger
let asked: string[]
let refusals: Error[]
let state: string
let status: string
beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-full-'))
  ledger = new DirectoryLedger(dir)
  asked = []
  refusals = []
  ;[state, status] = ['running', 'Success']
  return () => rm(dir, { recursive: true, maxRetries: 3 })
})

const DRAINED: NewStep[] = [{ step: 'suspending' }, { step: 'draining', instances: ['i-3'] }]
/** What the log says of how it ended. */
async function migrate(...more: NewStep[]) {
  const commands = {
    online: async () => new Set<string>(),
    find: async () => void asked.push('find'),
    send: async () => {
      asked.push('send')
      const error = refusals.shift()
      if (error) throw error
      return ['c-1']
    },
    result: async (_: string, instance: string) => ({ instance, status, details: '', code: 0, stdout: '', stderr: '' }),
  } as unknown as DeployWorld['commands']
  const instances = { state: async () => state } as unknown as DeployWorld['instances']
  const at = await begun(ledger, [...DRAINED, ...more])
  await using run = await claim(at, worldOf(ledger, { commands, instances }))
  await migrateOnce(run).catch((error: unknown) => error)
  return run.at.last('migrated')
}

test('who has just recorded it sends it at once', async () => {
  expect(await migrate()).toMatchObject({ outcome: 'done' })
  expect(asked).toEqual(['send'])
})

test('who finds it recorded looks for it first', async () => {
  expect(await migrate({ step: 'migrating', instance: 'i-3' })).toMatchObject({ outcome: 'done' })
  expect(asked).toEqual(['find', 'find', 'find', 'find', 'find', 'send'])
})

test('an agent that is silent for a while, and AWS refusing requests, are waited for', async () => {
  refusals.push(refusal('InvalidInstanceId'), unavailable('ec2_throttled', 'slow down'), refusal('InvalidInstanceId'))
  expect(await migrate()).toMatchObject({ outcome: 'done' })
  expect(asked).toEqual(['send', 'send', 'send', 'send'])
})

test('an instance that is gone is no silent agent', async () => {
  refusals.push(...Array.from({ length: 9 }, () => refusal('InvalidInstanceId')))
  state = 'terminated'
  expect(await migrate()).toMatchObject({ outcome: 'unknown', reason: 'i-3 is terminated' })
})

test('an instance that is terminated in the middle is noticed, by its state', async () => {
  ;[state, status] = ['shutting-down', 'InProgress']
  expect(await migrate()).toMatchObject({ outcome: 'unknown', reason: 'i-3 is shutting-down' })
})
