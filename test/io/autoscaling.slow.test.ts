import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { openScalingGroup } from '../../src/io/autoscaling.ts'
import { startLifecycle, type TestLifecycle } from '../support/aws-gaps/lifecycle-actions.ts'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'
import { HOOK, makeGroup } from '../support/scaling-group.ts'

let moto: Moto
let lifecycle: TestLifecycle

beforeAll(async () => {
  moto = await startMoto()
  lifecycle = await startLifecycle(moto.endpoint)
  for (const [name, value] of Object.entries(moto.env)) vi.stubEnv(name, value)
  vi.stubEnv('AWS_ENDPOINT_URL_AUTO_SCALING', lifecycle.endpoint)
}, 180_000)
afterAll(async () => {
  vi.unstubAllEnvs()
  await lifecycle[Symbol.asyncDispose]()
  await moto[Symbol.asyncDispose]()
})

test('an instance of no group has none', async () => {
  expect(await openScalingGroup('i-0123456789abcdef0', MOTO_REGION)).toBeUndefined()
})

test('an instance finds its group and protects itself from scale-in, and no other', async () => {
  const made = await makeGroup(moto, { size: 2 })
  const [mine, other] = made.instances as [string, string]
  using group = (await openScalingGroup(mine, MOTO_REGION))!
  expect(group.name).toBe(made.name)
  await group.protect(true)
  expect([await made.protected(mine), await made.protected(other)]).toEqual([true, false])
  await group.protect(false)
  expect(await made.protected(mine)).toBe(false)
})

test('the hook is found by itself or by its name, with its times', async () => {
  const made = await makeGroup(moto)
  using group = (await openScalingGroup(made.instances[0]!, MOTO_REGION))!
  expect(await group.hook()).toMatchObject(HOOK)
  expect((await group.hook())!.globalSeconds).toBeGreaterThanOrEqual(HOOK.heartbeatSeconds)
  expect(await group.hook(HOOK.name)).toMatchObject(HOOK)
  expect(await group.hook('other')).toBeUndefined()
  const without = await makeGroup(moto, { hook: false })
  using hookless = (await openScalingGroup(without.instances[0]!, MOTO_REGION))!
  expect(await hookless.hook()).toBeUndefined()
})

test('heartbeats and completion reach the hook; a second completion is refused and told', async () => {
  const made = await makeGroup(moto)
  const id = made.instances[0]!
  using group = (await openScalingGroup(id, MOTO_REGION))!
  const hook = (await group.hook())!
  lifecycle.terminate(id, { group: made.name, ...HOOK })
  await group.beat(hook)
  await group.complete(hook)
  expect(lifecycle.heartbeats).toContain(id)
  expect(lifecycle.completed).toContain(`${id} CONTINUE`)
  await expect(group.complete(hook)).rejects.toMatchObject({
    code: 'autoscaling_refused',
    exit: 4,
    message: expect.stringContaining('No active Lifecycle Action found'),
  })
})
