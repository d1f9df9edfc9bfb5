import { expect, test } from 'vitest'
import { InstanceMetadata } from '../../src/io/imds.ts'
import { startImds } from '../support/aws-gaps/imds.ts'

test('who the instance is, with one token for all requests', async () => {
  await using imds = await startImds({ instance: 'i-1', region: 'eu-west-3' })
  const metadata = InstanceMetadata.of(imds.env)!
  expect(await metadata.identity()).toEqual({ instance: 'i-1', region: 'eu-west-3' })
  expect(await metadata.inGroup()).toBe(false)
  expect(await metadata.notices()).toEqual([])
  expect(imds.tokens).toBe(1)
  expect(imds.refused).toEqual([])
})

test('a token that is valid no more is replaced by another', async () => {
  await using imds = await startImds()
  const metadata = InstanceMetadata.of(imds.env)!
  await metadata.identity()
  imds.forgetTokens()
  expect((await metadata.identity()).instance).toMatch(/^i-/)
  expect(imds.tokens).toBe(2)
})

test('a spot interruption is told with what is left, by the service’s clock and not by ours', async () => {
  await using imds = await startImds({ clockMs: -10 * 60_000 })
  const metadata = InstanceMetadata.of(imds.env)!
  imds.interrupt(120)
  const [notice, ...others] = await metadata.notices()
  expect(others).toEqual([])
  expect(notice).toMatchObject({ kind: 'spot', action: 'terminate' })
  // Times have whole seconds there.
  expect((notice as { inMs: number }).inMs).toBeGreaterThan(110_000)
  expect((notice as { inMs: number }).inMs).toBeLessThanOrEqual(121_000)
})

test.each([
  ['InService', []],
  ['Standby', []],
  ['Terminated', [{ kind: 'autoscaling', target: 'Terminated' }]],
  ['Warmed:Stopped', [{ kind: 'autoscaling', target: 'Warmed:Stopped' }]],
  ['Warmed:Running', []],
])('an auto-scaling group wants the instance to be %s', async (target, expected) => {
  await using imds = await startImds()
  imds.target = target
  const metadata = InstanceMetadata.of(imds.env)!
  expect(await metadata.inGroup()).toBe(true)
  expect(await metadata.notices()).toEqual(expected)
})

test('where nothing answers it says so at once, with what to do', async () => {
  const imds = await startImds()
  await imds[Symbol.asyncDispose]()
  const began = performance.now()
  const error = await InstanceMetadata.of(imds.env)!
    .identity()
    .catch((why: unknown) => why)
  expect(error).toMatchObject({ code: 'imds_unreachable', exit: 4, next: expect.stringContaining('AWS_EC2_METADATA_DISABLED') })
  expect(performance.now() - began).toBeLessThan(20_000)
})

test('AWS_EC2_METADATA_DISABLED=true: it is not asked', () => {
  expect(InstanceMetadata.of({ AWS_EC2_METADATA_DISABLED: 'true' })).toBeUndefined()
  expect(InstanceMetadata.of({})).toBeDefined()
})
