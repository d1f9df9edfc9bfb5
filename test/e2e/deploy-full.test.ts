import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { readDeployments } from '../../src/fleet/deployments.ts'
import { standing } from '../../src/fleet/full-state.ts'
import { appendSwap, type NewSwapEntry, readSwaps } from '../../src/fleet/swap-record.ts'
import { cells } from '../support/cells.ts'
import { type FullStackWorld, makeFullStackWorld } from '../support/full-stack.ts'
import { COMMITS } from '../support/stack.ts'

/** Each runs bake several times; without BAKE_TEST_ALL those that show one thing each that the others don't. */
const all = process.env.BAKE_TEST_ALL !== undefined

let world: FullStackWorld
beforeAll(async () => {
  world = await makeFullStackWorld()
}, 240_000)
afterAll(() => world?.[Symbol.asyncDispose]())

let group = ''
let stack = ''
let targets = ''
let old: string[] = []
let count = 0
const MIGRATE = ', hooks: { migrate: { service: web, command: [npm, run, "migrate it\'s all"] } }'
/** A stack of two instances at its largest size that nothing was deployed to, with a process that is suspended already. */
async function newStack({ hooks = MIGRATE, balanced = true, size = 2, ...more }: Options = {}): Promise<void> {
  group = await world.stacks.makeGroup({ size })
  stack = `s${++count}`
  await world.stacks.setStacks(`  ${stack}: { autoscaling_group: ${group}${hooks} }\n`)
  targets = world.balancers.make(stack)
  await world.groups.attach(group, { targetGroups: balanced ? [targets] : [], ...more })
  await world.suspend(group, 'AZRebalance')
  old = (await world.group(group)).ids
  world.groups.changes.length = 0
}
interface Options {
  hooks?: string
  balanced?: boolean
  size?: number
  classic?: string
  warmPool?: boolean
}
beforeEach(async () => {
  const { groups, balancers, commands } = world
  for (const { denied, changes } of [groups, balancers]) {
    denied.clear()
    changes.length = 0
  }
  groups.lost.clear()
  groups.trouble = undefined
  balancers.sick.clear()
  balancers.drainHolds = false
  await commands.reset()
})

const deploy = (...more: string[]) => {
  const args = ['deploy', '--stack', stack, '--release', 'v2', '--strategy', 'full', '--yes', '--json', ...more]
  return world.stacks.bake(args)
}
const start = (failpoint?: string, ...more: string[]) =>
  world.stacks.start(['deploy', '--stack', stack, '--release', 'v2', '--strategy', 'full', '--yes', ...more], {
    env: { BAKE_FAILPOINT: failpoint },
  })
const rollback = (...more: string[]) => world.stacks.bake(['rollback', '--stack', stack, '--yes', '--json', ...more])
const history = async () =>
  (await readDeployments(world.stacks.ledger, stack)).map((deployment) => {
    const step = standing(deployment)
    const status = deployment.ended?.status ?? 'running'
    return `${deployment.document.to.release} ${status}${step === undefined ? '' : `: ${step}`}`
  })
const errorOf = (stdout: string) => (JSON.parse(stdout) as { error: { code: string; message: string; next: string } }).error

/** What an undisturbed deployment leaves. */
async function expectDeployed({ migrated = 1 } = {}): Promise<void> {
  const after = await world.group(group)
  expect(after).toMatchObject({
    ...{ version: '2', instances: ['2', '2'], sizes: [1, 2, 3] },
    ...{ suspended: ['AZRebalance'], protected: [], protectsNew: false },
  })
  expect(after.ids.filter((id) => old.includes(id))).toEqual([])
  const { draining: _, ...registered } = world.balancers.states(targets)
  expect(registered).toEqual({ healthy: expect.toSatisfy((ids: string[]) => equal(ids, after.ids)) })
  expect(await world.commands.runs()).toHaveLength(migrated)
  expect(world.groups.changes.map(({ action }) => action)).not.toContain('SCALE-IN')
  expect(await history()).toEqual(['v2 deployed'])
}
/** All is as it was. */
async function expectAsBefore(): Promise<void> {
  const after = await world.group(group)
  expect(after).toMatchObject({
    ...{ version: '1', instances: ['1', '1'], sizes: [1, 2, 3] },
    ...{ suspended: ['AZRebalance'], protected: [], protectsNew: false },
  })
  expect(equal(after.ids, old)).toBe(true)
  const { draining: _, ...registered } = world.balancers.states(targets)
  expect(registered).toEqual({ healthy: expect.toSatisfy((ids: string[]) => equal(ids, old)) })
  expect(world.groups.changes.map(({ action }) => action)).not.toContain('SCALE-IN')
}
const equal = (a: string[], b: string[]) => JSON.stringify([...a].sort()) === JSON.stringify([...b].sort())

test('a full deployment: doubled, drained, migrated once, registered, retired, restored; again it is there', async () => {
  await newStack()
  const swap: NewSwapEntry = { state: 'ended', status: 'swapped', commit: COMMITS.v1, images: {}, inputs: [] }
  await appendSwap(world.stacks.ledger, { stack, n: 0 }, swap, 'ann@here')
  const result = await deploy()
  expect(result, result.stderr + result.stdout).toMatchObject({ code: 0 })
  expect(JSON.parse(result.stdout)).toMatchObject({ status: 'deployed', plan: { strategy: 'full' } })
  await expectDeployed()
  expect(await world.commands.runs()).toEqual([
    `run --rm --pull=never --name=bake-migrate --volumes-from=bake-web --env-file=F --user=1000 --env=KEY 127.0.0.1:1/shop/web@sha256:0000 npm run migrate it's all | PORT=3000 | KEY=$'one\\ntwo'`,
  ])
  expect((await readSwaps(world.stacks.ledger, stack)).last).toMatchObject({ state: 'closed', deployment: 0 })
  const asked = world.balancers.changes.map((change) => change.split(' ')[0])
  expect(asked.indexOf('RegisterTargets')).toBeGreaterThan(asked.lastIndexOf('DeregisterTargets'))
  expect(JSON.parse((await deploy()).stdout)).toMatchObject({ status: 'current' })
})

const STEPS = ['suspending', 'doubling', 'checking', 'draining', 'migrating', 'registering', 'retiring', 'restoring']
const POINTS = [
  'full-migrate-sent',
  'deploy-recorded',
  ...STEPS.flatMap((step) => [`full-${step}`, `full-${step}-done`]),
  'full-migrate-ended',
]

describe('what ends bake leaves a deployment that goes on:', () => {
  test.each(cells(POINTS))('kill -9 at %s, and again', async (point) => {
    await newStack()
    const killed = await start(`${point}:kill`).wait()
    expect(killed.signal, killed.stderr).toBe('SIGKILL')
    const again = await deploy()
    expect(again, again.stderr + again.stdout).toMatchObject({ code: 0 })
    expect(world.commands.sent.filter((comment) => comment.startsWith('bake migrate'))).toHaveLength(1)
    await expectDeployed()
  })

  test('Ctrl-C says where it stands and that nobody serves; another release is refused; the same command goes on', async () => {
    await newStack()
    world.balancers.drainHolds = true
    await using running = start()
    await running.waitFor('stderr', /waiting for the old instances to drain/)
    running.kill('SIGINT')
    const { code, stderr } = await running.wait()
    expect({ code, stderr }).toMatchObject({ code: 130, stderr: expect.stringContaining('bake rollback --stack') })
    expect(stderr).toMatch(/stopped where the old instances are drained, and no instance of s\d+ serves: bake deploy/)
    expect(await history()).toEqual(['v2 running: the old instances are drained'])
    const other = await world.stacks.bake(['deploy', '--stack', stack, '--release', 'v3', '--yes', '--json'])
    expect(errorOf(other.stdout)).toMatchObject({ code: 'deployment_open', next: expect.stringContaining('--strategy full') })
    const resumed = await world.stacks.bake(['autoscaling', 'resume', '--stack', stack, '--json'])
    expect(errorOf(resumed.stdout)).toMatchObject({ code: 'deployment_open' })
    expect((await world.stacks.bake(['stacks'])).stdout).toMatch(/v2 is being deployed: the old instances are drained/)
    world.balancers.drainHolds = false
    expect(await deploy()).toMatchObject({ code: 0 })
    await expectDeployed()
  })

  test.runIf(all)('an answer that got lost is waited for', async () => {
    await newStack()
    world.groups.lost.add('UpdateAutoScalingGroup')
    await using running = start()
    await running.waitFor('stderr', /waiting for Auto Scaling .*does not answer/)
    world.groups.lost.clear()
    expect(await running.wait()).toMatchObject({ code: 0 })
    await expectDeployed()
  })

  test.runIf(all)('two at once deploy once', async () => {
    await newStack()
    const both = await Promise.all([deploy(), deploy()])
    expect(
      both.map(({ code }) => code),
      both.map(({ stderr, stdout }) => stderr + stdout).join('\n\n'),
    ).toEqual([0, 0])
    expect(world.commands.sent.filter((comment) => comment.startsWith('bake migrate'))).toHaveLength(1)
    await expectDeployed()
  })
})

describe('migrate', () => {
  const expectStopped = async (code: string) => {
    const result = await deploy()
    expect(result.code, result.stderr + result.stdout).toBe(3)
    expect(errorOf(result.stdout)).toMatchObject({ code, next: expect.stringMatching(/--migrate-done.*--migrate-undone/) })
  }

  test('that fails stops the deployment; a person who has looked takes it back', async () => {
    await newStack()
    world.commands.migrateStatus = 3
    await expectStopped('migrate_failed')
    const refused = await rollback()
    expect(refused.code).toBe(2)
    expect(errorOf(refused.stdout)).toMatchObject({ code: 'migrate_begun', next: expect.stringContaining('--migrate-undone') })
    if (all) {
      const asked = await world.stacks.bake(['rollback', '--stack', stack, '--migrate-undone', '--json'])
      expect(errorOf(asked.stdout)).toMatchObject({ next: expect.stringMatching(/ --migrate-undone --yes$/) })
    }
    expect((await rollback('--migrate-undone')).code).toBe(0)
    await expectAsBefore()
    expect(await history()).toEqual(['v2 rolled-back'])
    if (!all) return
    world.commands.migrateStatus = 0
    expect(await deploy()).toMatchObject({ code: 0 })
    expect(await world.group(group)).toMatchObject({ version: '2', sizes: [1, 2, 3], suspended: ['AZRebalance'] })
  })

  test.runIf(all)('whose outcome nobody knows stops it, and is not run again; a person who has looked goes on', async () => {
    await newStack()
    world.commands.migrateEnds = 'Cancelled'
    await expectStopped('migrate_unknown')
    await expectStopped('migrate_unknown')
    expect(await deploy('--migrate-done')).toMatchObject({ code: 0 })
    expect(world.commands.sent.filter((comment) => comment.startsWith('bake migrate'))).toHaveLength(1)
    await expectDeployed({ migrated: 0 })
  })

  test.runIf(all)('is found again when the answer to its command got lost', async () => {
    await newStack()
    world.commands.lost = true
    expect(await deploy()).toMatchObject({ code: 0 })
    expect(world.commands.sent.filter((comment) => comment.startsWith('bake migrate'))).toHaveLength(1)
    await expectDeployed()
  })

  test.runIf(all)('is waited for; while it runs nothing is taken back', async () => {
    await newStack()
    world.commands.migrateHolds = true
    await using running = start()
    await running.waitFor('stderr', /waiting for migrate: i-/)
    expect(errorOf((await rollback()).stdout)).toMatchObject({ code: 'migrate_begun' })
    expect(errorOf((await deploy('--migrate-done')).stdout)).toMatchObject({ code: 'nothing_to_answer' })
    running.kill('SIGKILL')
    await running.wait()
    world.commands.migrateHolds = false
    expect(await deploy()).toMatchObject({ code: 0 })
    await expectDeployed()
  })
})

describe('going back before migrate', () => {
  test('while bake takes the steps: it turns, and both end', async () => {
    await newStack()
    world.balancers.drainHolds = true
    await using running = start(undefined, '--json')
    await running.waitFor('stderr', /waiting for the old instances to drain/)
    const back = await rollback()
    expect(back, back.stderr + back.stdout).toMatchObject({ code: 0 })
    expect(errorOf((await running.wait()).stdout)).toMatchObject({ code: 'deploy_rolled_back' })
    await expectAsBefore()
    expect(await history()).toEqual(['v2 rolled-back'])
    expect(await rollback()).toMatchObject({ code: 0, stdout: expect.stringContaining('"current"') })
    expect(await world.commands.runs()).toEqual([])
  })

  const points = ['reregistering', 'removing', 'restoring'].flatMap((step) => [`full-${step}`, `full-${step}-done`])
  test.runIf(all).each(points)('kill -9 at %s, and again', async (point) => {
    await newStack()
    await start('full-draining-done:kill').wait()
    const killed = await world.stacks.bake(['rollback', '--stack', stack, '--yes'], { env: { BAKE_FAILPOINT: `${point}:kill` } })
    expect(killed.signal, killed.stderr).toBe('SIGKILL')
    expect(await rollback()).toMatchObject({ code: 0 })
    await expectAsBefore()
  })

  test.runIf(all).each([
    ['services are not well', 'web: failed: it ended', { commands: { sick: 'web: failed: it ended' } }],
    ['nothing can be launched', 'VcpuLimitExceeded', { groups: { trouble: 'VcpuLimitExceeded' } }],
  ])('by itself: %s', async (_, reason, { commands = {}, groups = {} }: { commands?: object; groups?: object }) => {
    await newStack()
    Object.assign(world.commands, commands)
    Object.assign(world.groups, groups)
    const result = await deploy()
    expect(result.code, result.stderr + result.stdout).toBe(3)
    expect(errorOf(result.stdout)).toMatchObject({ code: 'deploy_rolled_back', message: expect.stringContaining(reason) })
    await expectAsBefore()
    expect(world.balancers.changes).toEqual([])
  })

  test.runIf(all).each([
    ['autoscaling:SuspendProcesses', () => world.groups.denied.add('SuspendProcesses')],
    ['autoscaling:UpdateAutoScalingGroup', () => world.groups.denied.add('UpdateAutoScalingGroup')],
    ['ssm:SendCommand', () => world.commands.denied.add('SendCommand')],
  ])('by itself: no permission for %s', async (action, deny) => {
    await newStack()
    deny()
    const result = await deploy()
    expect(result.code, result.stderr + result.stdout).toBe(4)
    expect(errorOf(result.stdout)).toMatchObject({ code: 'ec2_denied', next: expect.stringContaining(action) })
    await expectAsBefore()
    expect(await history()).toEqual(['v2 rolled-back'])
  })
})

describe('nothing is changed, and one clear error says why:', () => {
  const cases: [string, string, Options, () => unknown][] = [
    ['instances without an agent', 'ssm_missing', {}, () => world.commands.offline.add('all')],
    ['no permission to register', 'ec2_denied', {}, () => world.balancers.denied.add('RegisterTargets')],
    ['a classic load balancer', 'group_balancers', { classic: 'old-elb' }, () => {}],
    ['a warm pool', 'group_warm_pool', { warmPool: true }, () => {}],
    ['no permission to find commands', 'ec2_denied', {}, () => world.commands.denied.add('ListCommands')],
  ]
  test.each(cells(cases, 2))('%s', async (_, code, options, disturb) => {
    await newStack(options)
    disturb()
    expect(errorOf((await deploy()).stdout)).toMatchObject({ code, next: expect.any(String) })
    expect([world.groups.changes, world.balancers.changes, await history()]).toEqual([[], [], []])
  })

  test('--dry-run shows the steps and the outage', async () => {
    await newStack()
    const { stdout } = await world.stacks.bake(['deploy', '--stack', stack, '--release', 'v2', '--strategy', 'full', '--dry-run'])
    expect(stdout).toMatch(
      /2 more of v2 .*at most 4 meanwhile; .*own health checks\noutage .* up to 30.*\nmigrate .*web: npm run/,
    )
    expect([world.groups.changes, await history()]).toEqual([[], []])
  })
})

test.runIf(all)('without load balancer, agent or migrate: checked by EC2, and back afterwards as ever', async () => {
  await newStack({ hooks: '', balanced: false })
  world.commands.offline.add('all')
  const result = await deploy()
  expect(result, result.stderr + result.stdout).toMatchObject({ code: 0 })
  expect(await world.group(group)).toMatchObject({ version: '2', instances: ['2', '2'], sizes: [1, 2, 3], protected: [] })
  expect(await rollback()).toMatchObject({ code: 0 })
  expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
})
