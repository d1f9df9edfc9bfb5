import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { unavailable } from '../../src/errors.ts'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import type { NewStep } from '../../src/fleet/deployments.ts'
import { runFull } from '../../src/fleet/full.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { GroupDouble, instanceOf, refusal } from '../support/full-group-double.ts'
import { begun, worldOf } from '../support/full-log.ts'

let ledger: DirectoryLedger
let double: GroupDouble
let told: string[]
beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-full-'))
  ledger = new DirectoryLedger(dir)
  double = new GroupDouble()
  told = []
  return () => rm(dir, { recursive: true, maxRetries: 3 })
})

afterEach(() => void vi.useRealTimers())

const world = (more: Partial<DeployWorld> = {}) =>
  worldOf(ledger, { ...double.world(), tell: (_, text) => void told.push(text), ...more })
/** From after these steps to its end. */
const go = async (steps: NewStep[], more: Parameters<typeof begun>[2] = {}) =>
  (await runFull(await begun(ledger, [...steps], { migrate: undefined, ...more }), world())).ended

const SUSPENDED = ['AddToLoadBalancer', 'AlarmNotification', 'AZRebalance', 'HealthCheck', 'ReplaceUnhealthy', 'ScheduledActions']

describe('what somebody else changed before the suspension stays, and ends it:', () => {
  test.each([
    ['desired', { desired: 3, max: 3 }],
    ['min', { min: 2 }],
    ['max', { max: 5 }],
    ['protection', { protectsNew: true }],
    ['version', { template: { id: 'lt-1', name: 'web', version: '9' } }],
  ])('%s', async (_, changed) => {
    Object.assign(double.group, changed, { suspended: SUSPENDED })
    expect(await go([{ step: 'suspending' }])).toMatchObject({ status: 'rolled-back' })
    expect(double.group).toMatchObject({ ...changed, suspended: [] })
    expect(double.changes).toEqual(['resume'])
  })
})

/** Up to a migration that failed, of two new instances. */
const MIGRATED: NewStep[] = [
  ...([{ step: 'suspending' }, { step: 'doubling' }, { step: 'checking' }] as const),
  { step: 'draining', instances: ['i-3', 'i-4'] },
  { step: 'migrating', instance: 'i-3' },
  { step: 'migrated', outcome: 'failed' },
]
const doubled = () =>
  Object.assign(double.group, {
    ...{ desired: 4, max: 4, protectsNew: true, suspended: SUSPENDED, template: { id: 'lt-1', name: 'web', version: '2' } },
    instances: [...double.group.instances, ...['i-3', 'i-4'].map((id) => instanceOf(id, 2, { protected: true }))],
  })
const balanced = { targetGroups: [{ arn: 'a/web/1', name: 'web', drainSeconds: 0 }] }

test('who said that migrate is undone and died before the next step: it goes back all the same', async () => {
  doubled()
  expect(await go([...MIGRATED, { step: 'answered', migrated: false }])).toMatchObject({ status: 'rolled-back' })
  expect(double.group).toMatchObject({ desired: 2, max: 2, template: { version: '1' }, suspended: [], protectsNew: false })
  expect(double.group.instances.map(({ id }) => id)).toEqual(['i-1', 'i-2'])
})

test('a release that stays unhealthy after its migration goes back by a word on the data', async () => {
  doubled()
  for (const id of ['i-3', 'i-4']) double.targets.set(id, 'unhealthy')
  const steps: NewStep[] = [...MIGRATED.slice(0, 5), { step: 'migrated', outcome: 'done' }, { step: 'registering' }]
  expect(await go([...steps, { step: 'answered', migrated: false }], balanced)).toMatchObject({ status: 'rolled-back' })
  expect([...double.targets.keys()]).toEqual(['i-1', 'i-2'])
})

describe('one that EC2 has lost, and the group still lists,', () => {
  test('is replaced by a person: what the group has then serves, and nobody waits for the dead one', async () => {
    doubled()
    double.dead.add('i-4')
    let looks = 0
    double.onLook = () => {
      if (looks++ !== 5) return
      expect(told.at(-1)).toMatch(/1 of 2 in web \(i-4 is not in a running state\)/)
      const { instances } = double.group
      double.group = { ...double.group, instances: [...instances.slice(0, 3), instanceOf('i-5', 2, { protected: true })] }
    }
    const steps = MIGRATED.slice(0, 4)
    expect(await go([...steps, { step: 'registering' }], balanced)).toMatchObject({ status: 'deployed' })
    expect([...double.targets]).toEqual([
      ['i-3', 'healthy'],
      ['i-5', 'healthy'],
    ])
  })

  test('and nothing else of the old is left: the new are not taken away', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    doubled()
    for (const id of ['i-1', 'i-2']) double.dead.add(id)
    double.targets.set('i-3', 'healthy')
    double.onLook = () => void vi.advanceTimersByTime(60_000)
    const went = go([...MIGRATED.slice(0, 4), { step: 'registering' }, { step: 'rolling-back' }], balanced)
    await expect(went).rejects.toMatchObject({ code: 'deploy_stuck', exit: 3, message: expect.stringContaining('i-1, i-2') })
    expect(double.changes).toEqual(['deregister i-3'])
  })
})

test('the two releases never serve beside each other on the way back', async () => {
  doubled()
  for (const id of ['i-3', 'i-4']) double.targets.set(id, 'healthy')
  const steps = [...MIGRATED.slice(0, 4), { step: 'registering' }, { step: 'rolling-back' }] as NewStep[]
  expect(await go(steps, balanced)).toMatchObject({ status: 'rolled-back' })
  expect(double.changes.slice(0, 4)).toEqual(['deregister i-3', 'deregister i-4', 'register i-1', 'register i-2'])
})

test('killed after the end of restoring: the group, which sizes itself since, is left alone', async () => {
  doubled()
  Object.assign(double.group, { desired: 3, max: 2, protectsNew: false, suspended: [] })
  expect(await go([...MIGRATED.slice(0, 4), { step: 'retiring' }, { step: 'restoring' }])).toMatchObject({ status: 'deployed' })
  expect([double.changes, double.group.desired]).toEqual([[], 3])
})

test('an instance that appears after the others were taken away is taken away too', async () => {
  doubled()
  let looks = 0
  double.onLook = () => {
    if (double.group.instances.length === 2 && looks++ === 1) double.group.instances.push(instanceOf('i-5', 2))
  }
  const steps = [...MIGRATED.slice(0, 3), { step: 'rolling-back' }] as NewStep[]
  expect(await go(steps)).toMatchObject({ status: 'rolled-back' })
  expect(double.changes).toContain('terminate i-5')
})

test.each(['ResourceContentionFault', 'ScalingActivityInProgressFault'])('%s is waited for', async (name) => {
  doubled()
  const refused = new Set<string>()
  double.onChange = (change) => {
    if (refused.has(change)) return
    refused.add(change)
    throw refusal(name)
  }
  const steps = [...MIGRATED.slice(0, 3), { step: 'rolling-back' }] as NewStep[]
  expect(await go(steps)).toMatchObject({ status: 'rolled-back' })
  expect([...refused]).toEqual(['suspend', 'update', 'terminate i-3', 'terminate i-4', 'resume'])
})

test('what Auto Scaling has against a termination is told', async () => {
  doubled()
  let times = 0
  double.onChange = (change) => {
    if (change === 'terminate i-3' && times++ === 0) throw refusal('ValidationError', 'it would violate the min size')
  }
  await go([...MIGRATED.slice(0, 3), { step: 'rolling-back' }])
  expect(told).toContainEqual(expect.stringContaining('2 left (it would violate the min size)'))
})

describe('AWS and the ledger out of reach', () => {
  test.each(['ec2_unreachable', 'ec2_throttled', 'ledger_unreachable', 'ledger_throttled', 'lease_lost'])(
    'for a while are waited for: %s',
    async (code) => {
      doubled()
      let looks = 0
      double.onLook = () => {
        if (looks++ < 3) throw unavailable(code, 'it does not answer')
      }
      const steps = [...MIGRATED.slice(0, 3), { step: 'rolling-back' }] as NewStep[]
      expect(await go(steps)).toMatchObject({ status: 'rolled-back' })
      expect(told.join('\n')).toMatch(/it does not answer: it is tried again/)
      expect(told.join('\n')).not.toMatch(/takes the steps/)
    },
  )

  test('for long: bake says what it leaves', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    doubled()
    double.onLook = () => {
      vi.advanceTimersByTime(120_000)
      throw unavailable('ledger_unreachable', 'it does not answer')
    }
    const went = go([...MIGRATED.slice(0, 4), { step: 'registering' }], balanced)
    await expect(went).rejects.toMatchObject({ code: 'ledger_unreachable' })
    expect(told.at(-1)).toMatch(
      /stopped where the new instances are registered, and no instance of production serves: bake deploy/,
    )
  })
})

test('what AWS refuses for good has a next step', async () => {
  doubled()
  double.onChange = (change) => {
    if (change.startsWith('terminate')) throw refusal('InvalidThing')
  }
  const went = go([...MIGRATED.slice(0, 4), { step: 'retiring' }])
  await expect(went).rejects.toMatchObject({ code: 'ec2_refused', next: expect.stringContaining('--strategy full goes on') })
})
