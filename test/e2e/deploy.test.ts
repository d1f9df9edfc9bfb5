import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { cells } from '../support/cells.ts'
import { startHookServer } from '../support/hook-server.ts'
import { makeStackWorld, type StackWorld } from '../support/stack.ts'
import { openTerminal } from '../support/terminal.ts'

let world: StackWorld
let group: string
beforeAll(async () => {
  world = await makeStackWorld()
}, 240_000)
afterAll(() => world?.[Symbol.asyncDispose]())

const ROLLING =
  '{ min_healthy: 50, max_healthy: 150, warmup: 30s, bake_time: 5m, checkpoints: [20, 100], checkpoint_delay: 1m, alarms: [errors] }'
let stack = ''
let count = 0
/** A stack that nothing was deployed to. */
async function newStack(options: Parameters<StackWorld['makeGroup']>[0] = {}, rolling = ROLLING): Promise<void> {
  group = await world.makeGroup(options)
  stack = `s${++count}`
  await world.setStacks(`  ${stack}: { autoscaling_group: ${group}, rolling: ${rolling} }\n  dev: { local: true }\n`)
}
beforeEach(() => {
  const { refreshes } = world
  refreshes.changes.length = 0
  Object.assign(refreshes, { hold: undefined, sick: undefined })
  refreshes.denied.clear()
  refreshes.lost.clear()
  refreshes.alarms.clear()
})

const deploy = (release: string, ...more: string[]) =>
  world.bake(['deploy', '--stack', stack, '--release', release, '--yes', '--json', ...more])
const rollback = (...more: string[]) => world.bake(['rollback', '--stack', stack, '--yes', '--json', ...more])
const history = async () =>
  (
    JSON.parse((await world.bake(['history', '--stack', stack, '--json'])).stdout) as {
      deployments: { status: string; plan: { to: { release: string } } }[]
    }
  ).deployments.map(({ status, plan }) => `${plan.to.release} ${status}`)
const stacks = async () =>
  (
    JSON.parse((await world.bake(['stacks', '--json'])).stdout) as {
      stacks: { state: { launch: { release: string }; drift: string[]; suspended: string[] } }[]
    }
  ).stacks[0]!.state
const calls = () => world.refreshes.changes.map(({ action }) => action)

describe('a rolling deployment', () => {
  test('is one instance refresh to a numbered version, with the preferences of bake.yaml; again it is there', async () => {
    await newStack()
    const result = await deploy('v2')
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(result.stdout)).toMatchObject({
      status: 'deployed',
      plan: {
        from: { release: 'v1', image: world.images.v1 },
        to: { release: 'v2', image: world.images.v2, template: { version: 2 } },
      },
    })
    expect(calls()).toEqual(['StartInstanceRefresh'])
    expect(Object.fromEntries(world.refreshes.changes[0]!.form)).toMatchObject({
      Strategy: 'Rolling',
      'DesiredConfiguration.LaunchTemplate.LaunchTemplateId': expect.stringMatching(/^lt-/),
      'DesiredConfiguration.LaunchTemplate.Version': '2',
      'Preferences.AutoRollback': 'true',
      'Preferences.MinHealthyPercentage': '50',
      'Preferences.MaxHealthyPercentage': '150',
      'Preferences.SkipMatching': 'true',
      'Preferences.InstanceWarmup': '30',
      'Preferences.BakeTime': '300',
      'Preferences.CheckpointPercentages.member.2': '100',
      'Preferences.CheckpointDelay': '60',
      'Preferences.AlarmSpecification.Alarms.member.1': 'errors',
    })
    expect(await world.group(group)).toMatchObject({ version: '2', instances: ['2', '2'] })
    expect(await stacks()).toMatchObject({ launch: { release: 'v2' }, drift: [] })
    expect((await world.bake(['stacks', '--json'])).stdout).toContain('"digest": "sha256:')
    expect(JSON.parse((await deploy('v2')).stdout)).toMatchObject({ status: 'current' })
    expect(calls()).toEqual(['StartInstanceRefresh'])
    expect(await history()).toEqual(['v2 deployed'])
  })

  test('that fails is rolled back by Auto Scaling, and told', async () => {
    await newStack()
    world.refreshes.sick = 'instance i-1 failed its health checks'
    const result = await deploy('v2')
    expect(result).toMatchObject({ code: 3, stderr: expect.stringContaining('going back') })
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: 'deploy_rolled_back', message: expect.stringMatching(/runs v1 again: instance i-1 failed/) },
    })
    expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
    expect(await history()).toEqual(['v2 rolled-back'])
    expect((await stacks()).drift).toEqual([])
  })

  test('that somebody cancels leaves both, and says so', async () => {
    await newStack()
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['deploy', '--stack', stack, '--release', 'v2', '--yes', '--json'])
    await running.waitFor('stderr', /instances are replaced/)
    world.refreshes.cancel(group)
    const result = await running.wait()
    expect(result.code).toBe(3)
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: 'deploy_cancelled', next: expect.stringContaining('bake rollback') },
    })
  })
})

test('who is to be told hears of each end once: of what is deployed, what failed, and what went back', async () => {
  await using server = await startHookServer()
  await newStack()
  const rest = `notify:\n  - { webhook: "${server.url}/x", secret_env: HOOK_SECRET, on: [deployed, rolled-back] }\n  - { slack_env: HOOK }\n`
  await world.setStacks(`  ${stack}: { autoscaling_group: ${group}, rolling: ${ROLLING} }\n${rest}`)
  const env = { HOOK: `${server.url}/slack`, HOOK_SECRET: `whsec_${Buffer.alloc(32, 3).toString('base64')}` }
  const run = (command: string, ...more: string[]) => world.bake([command, '--stack', stack, '--yes', ...more], { env })
  expect(await run('deploy', '--release', 'v2')).toMatchObject({ code: 0 })
  expect(await run('deploy', '--release', 'v2')).toMatchObject({ code: 0 })
  world.refreshes.sick = world.images.v3
  expect(await run('deploy', '--release', 'v3')).toMatchObject({ code: 3 })
  world.refreshes.sick = undefined
  world.refreshes.denied.add('StartInstanceRefresh')
  expect(await run('deploy', '--release', 'v3')).toMatchObject({ code: 4 })
  world.refreshes.denied.clear()
  expect(await run('rollback', '--to', 'v1')).toMatchObject({ code: 0 })
  const told = server.calls.map(({ path, body }) => {
    const { type, data, text } = JSON.parse(body) as { type: string; data: { runs: { release: string } }; text: string }
    return path === '/slack' ? text.split('\n', 1)[0]!.replace(/ after .*/, '') : `${type} ${data.runs.release}`
  })
  expect(told).toEqual([
    'deployment.deployed v2',
    'deployment.rolled-back v2',
    `❌ *shop/${stack}* could not be brought to *v3* (failed)`,
    'deployment.rolled-back v1',
  ])
})

describe('what ends bake does not end the deployment:', () => {
  test.each(['SIGINT', 'SIGKILL'] as const)('%s in the middle, and the same command goes on', async (signal) => {
    await newStack()
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['deploy', '--stack', stack, '--release', 'v2', '--yes'])
    await running.waitFor('stderr', /instances are replaced/)
    running.kill(signal)
    const { code, stderr } = await running.wait()
    if (signal === 'SIGINT')
      expect({ code, stderr }).toMatchObject({ code: 130, stderr: expect.stringContaining('goes on without bake') })
    expect(JSON.parse((await deploy('v3')).stdout)).toMatchObject({
      error: { code: 'deployment_open', message: expect.stringContaining('v2') },
    })
    world.refreshes.hold = undefined
    const again = await deploy('v2')
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(calls()).toEqual(['StartInstanceRefresh'])
    expect(await history()).toEqual(['v2 deployed'])
  })

  test.each(cells(['deploy-started', 'deploy-starting', 'deploy-recorded', 'deploy-refresh'], 2))(
    'kill -9 at %s, and again',
    async (point) => {
      await newStack()
      const killed = await world.bake(['deploy', '--stack', stack, '--release', 'v2', '--yes'], {
        env: { BAKE_FAILPOINT: `${point}:kill` },
      })
      expect(killed.signal, killed.stderr).toBe('SIGKILL')
      const again = await deploy('v2')
      expect(again, again.stderr).toMatchObject({ code: 0 })
      expect(calls()).toEqual(['StartInstanceRefresh'])
      expect(await history()).toEqual(['v2 deployed'])
      expect(await world.group(group)).toMatchObject({ version: '2', instances: ['2', '2'] })
    },
  )

  test('an end that nobody watched is noted by the next command', async () => {
    await newStack()
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['deploy', '--stack', stack, '--release', 'v2', '--yes'])
    await running.waitFor('stderr', /instances are replaced/)
    running.kill('SIGKILL')
    await running.wait()
    world.refreshes.hold = undefined
    for (let looks = 0; looks < 4; looks++) await stacks()
    expect(await history()).toEqual(['v2 deployed'])
    expect(await deploy('v3')).toMatchObject({ code: 0 })
    expect(await history()).toEqual(['v3 deployed', 'v2 deployed'])
  })

  test('a group that is gone: the deployment ends, and the next one is told of the group', async () => {
    await newStack()
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['deploy', '--stack', stack, '--release', 'v2', '--yes', '--json'])
    await running.waitFor('stderr', /instances are replaced/)
    await world.removeGroup(group)
    const result = await running.wait()
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: 'deploy_failed', message: expect.stringContaining('is gone') },
    })
  })

  test('an answer that got lost: the refresh is found', async () => {
    await newStack()
    world.refreshes.lost.add('StartInstanceRefresh')
    const result = await deploy('v2')
    expect(result, result.stderr).toMatchObject({ code: 4 })
    expect(await history()).toEqual(['v2 running'])
    world.refreshes.lost.clear()
    const again = await deploy('v2')
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(await history()).toEqual(['v2 deployed'])
    expect(await world.group(group)).toMatchObject({ version: '2', instances: ['2', '2'] })
  })

  test('two at once deploy once', async () => {
    await newStack()
    const both = await Promise.all([deploy('v2'), deploy('v2')])
    expect(
      both.map(({ code }) => code),
      both.map(({ stderr, stdout }) => stderr + stdout).join('\n\n'),
    ).toEqual([0, 0])
    expect(world.refreshes.count(group)).toBe(1)
    expect(await history()).toEqual(['v2 deployed'])
    expect(await world.group(group)).toMatchObject({ version: '2', instances: ['2', '2'] })
  })
})

describe('bake rollback', () => {
  test('turns a deployment round that is under way', async () => {
    await newStack()
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['deploy', '--stack', stack, '--release', 'v2', '--yes', '--json'])
    await running.waitFor('stderr', /instances are replaced/)
    const result = await rollback()
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(result.stdout)).toMatchObject({ status: 'rolled-back' })
    expect(JSON.parse((await running.wait()).stdout)).toMatchObject({ error: { code: 'deploy_rolled_back' } })
    // Whoever follows it may turn it.
    expect(new Set(calls())).toEqual(new Set(['StartInstanceRefresh', 'RollbackInstanceRefresh']))
    expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
  })

  test('brings back what ran before the newest deployment, and with --to what it is told', async () => {
    await newStack()
    expect(await deploy('v2')).toMatchObject({ code: 0 })
    const back = await rollback()
    expect(back, back.stderr).toMatchObject({ code: 0 })
    expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
    expect(await rollback('--to', 'v3')).toMatchObject({ code: 0 })
    expect(await world.group(group)).toMatchObject({ version: '3' })
    expect(await history()).toEqual(['v3 deployed', 'v1 deployed', 'v2 deployed'])
  })

  test('asked for again changes nothing: neither further back nor forward', async () => {
    await newStack()
    expect(await deploy('v2')).toMatchObject({ code: 0 })
    expect(await deploy('v3')).toMatchObject({ code: 0 })
    // The alarm that is why one goes back does not keep from it.
    world.refreshes.alarms.add('errors')
    expect(await rollback()).toMatchObject({ code: 0 })
    expect(await rollback()).toMatchObject({ code: 0, stdout: expect.stringContaining('"current"') })
    expect(await world.group(group)).toMatchObject({ version: '2' })
    world.refreshes.alarms.clear()
    world.refreshes.sick = 'no'
    expect(await deploy('v3')).toMatchObject({ code: 3 })
    expect(await rollback()).toMatchObject({ code: 0, stdout: expect.stringContaining('"current"') })
    expect(await world.group(group)).toMatchObject({ version: '2' })
  })

  test('that was killed goes on, and does not turn round', async () => {
    await newStack()
    expect(await deploy('v2')).toMatchObject({ code: 0 })
    world.refreshes.hold = 'InProgress'
    await using running = world.start(['rollback', '--stack', stack, '--yes'])
    await running.waitFor('stderr', /instances are replaced/)
    running.kill('SIGKILL')
    await running.wait()
    world.refreshes.hold = undefined
    expect(await rollback()).toMatchObject({ code: 0 })
    expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
    expect(world.refreshes.count(group)).toBe(2)
  })

  test.each(
    cells([
      ['deploy-started', 1],
      ['deploy-starting', 0],
      ['deploy-recorded', 0],
      ['deploy-refresh', 1],
    ]),
  )('of a deployment that was killed at %s', async (point, refreshes) => {
    await newStack()
    await world.bake(['deploy', '--stack', stack, '--release', 'v2', '--yes'], { env: { BAKE_FAILPOINT: `${point}:kill` } })
    world.refreshes.hold = 'InProgress'
    const result = await rollback()
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(world.refreshes.count(group)).toBe(refreshes)
    expect(await history()).toEqual(['v2 rolled-back'])
    expect(await world.group(group)).toMatchObject({ version: '1', instances: ['1', '1'] })
  })

  test('of nothing says what to do', async () => {
    await newStack()
    const result = await rollback()
    expect(result.code).toBe(2)
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: 'nothing_to_roll_back', next: expect.stringContaining('--to') },
    })
  })
})

describe('nothing is changed, and one clear error says why:', () => {
  const refusal = async (result: Promise<{ code: number | null; stdout: string }>) => {
    const { code, stdout } = await result
    expect(calls()).toEqual([])
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; next?: string } }
    return { ...error, exit: code }
  }

  test('a stack that there is not, one without a group, a release that was never baked', async () => {
    await newStack()
    const ask = (...args: string[]) => refusal(world.bake(['deploy', '--yes', '--json', ...args]))
    expect(await ask('--stack', 'prodution', '--release', 'v2')).toMatchObject({ exit: 2, code: 'unknown_stack' })
    expect(await ask('--stack', 'dev', '--release', 'v2')).toMatchObject({ exit: 2, code: 'stack_without_group' })
    for (const command of [['rollback', '--yes'], ['swap'], ['history'], ['autoscaling', 'suspend']])
      expect(await refusal(world.bake([...command, '--json', '--stack', 'prodution'])), command.join(' ')).toMatchObject({
        exit: 2,
        code: 'unknown_stack',
        next: expect.any(String),
      })
    expect(await refusal(rollback('--to', 'v9'))).toMatchObject({
      exit: 2,
      code: 'not_baked',
      next: expect.stringContaining('bake ami --release v9'),
    })
  })

  test.each([
    [
      'a group that there is not',
      'unknown_group',
      async (): Promise<void> => await world.setStacks(`  ${stack}: { autoscaling_group: nowhere }\n`),
    ],
    ['a launch configuration', 'group_without_template', async () => await newStack({ version: 'none' })],
    ['a group that follows $Latest', 'group_unnumbered', async () => await newStack({ version: '$Latest' })],
    [
      'somebody else’s refresh',
      'refresh_in_progress',
      async () => {
        world.refreshes.begin(group)
        world.refreshes.hold = 'InProgress'
      },
    ],
    [
      'suspended processes',
      'processes_suspended',
      async (): Promise<void> => void (await world.bake(['autoscaling', 'suspend', '--stack', stack, '--process', 'Launch'])),
    ],
  ] as const)('%s', async (_, code, prepare) => {
    await newStack()
    await prepare()
    expect(await refusal(deploy('v2'))).toMatchObject({ exit: 2, code, next: expect.any(String) })
    expect(await history()).toEqual([])
  })

  test('no permission: the IAM action is named, and the next try is a new one', async () => {
    await newStack()
    world.refreshes.denied.add('StartInstanceRefresh')
    expect(await refusal(deploy('v2'))).toMatchObject({
      exit: 4,
      code: 'ec2_denied',
      next: expect.stringContaining('autoscaling:StartInstanceRefresh'),
    })
    world.refreshes.denied.clear()
    expect(await deploy('v2')).toMatchObject({ code: 0 })
    expect(await history()).toEqual(['v2 deployed', 'v2 failed'])
  })

  test('nobody to ask, and --dry-run', async () => {
    await newStack()
    expect(await refusal(world.bake(['deploy', '--stack', stack, '--release', 'v2', '--json']))).toMatchObject({
      code: 'confirmation_needed',
    })
    const { stdout } = await world.bake(['deploy', '--stack', stack, '--release', 'v2', '--dry-run'])
    expect(stdout).toMatch(/from .* v1 .*\n.*to .* v2 .*version 2/)
    expect([calls(), await history()]).toEqual([[], []])
  })
})

test('processes are suspended and resumed, and bake stacks shows it and what differs', async () => {
  await newStack()
  expect(await deploy('v2')).toMatchObject({ code: 0 })
  const { stdout } = await world.bake(['autoscaling', 'suspend', '--stack', stack])
  expect(stdout.trim().split('\n')).toEqual([
    'AZRebalance',
    'AlarmNotification',
    'HealthCheck',
    'ReplaceUnhealthy',
    'ScheduledActions',
  ])
  expect((await stacks()).suspended).toHaveLength(5)
  expect(await world.bake(['autoscaling', 'resume', '--stack', stack])).toMatchObject({ code: 0, stdout: '' })
  const other = await world.makeGroup({ version: '1' })
  await world.setStacks(`  ${stack}: { autoscaling_group: ${other} }\n  gone: { autoscaling_group: nowhere }\n`)
  const table = (await world.bake(['stacks'])).stdout
  expect(table).toMatch(/launches version 1 of shop-web, not version 2 \(v2\)/)
  expect(table).toMatch(/gone .* there is no group nowhere/)
})

test('a person is shown the plan and asked', async () => {
  await newStack()
  const dev = fileURLToPath(new URL('../../bin/dev.js', import.meta.url))
  const words = [process.execPath, '--disable-warning=ExperimentalWarning', dev, 'deploy', '--stack', stack, '--release', 'v2']
  await using terminal = await openTerminal(`cd ${world.repo.dir} && ${words.join(' ')}`, { columns: 160 })
  await terminal.waitFor(/Go on\? \[y\/N\]/)
  expect((await terminal.screen()).join('\n')).toMatch(/from .* v1 .*\n.*to .* v2 /)
  await terminal.press('y')
  await terminal.press('Enter')
  await terminal.waitFor(/ended 0/)
})
