import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { Ec2 } from '../../src/io/ec2.ts'
import { parseImage } from '../../src/io/ec2-image.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION } from '../support/moto.ts'

let world: TestEc2
let proxy: AwsProxy
beforeAll(async () => {
  world = await startEc2()
  proxy = await startAwsProxy(world.gaps.endpoint)
  vi.stubEnv('AWS_ENDPOINT_URL_EC2', proxy.endpoint)
  vi.stubEnv('AWS_MAX_ATTEMPTS', '2')
}, 180_000)
afterAll(async () => {
  await proxy?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})
beforeEach(() => proxy.heal())

const look = () => new Ec2Images(new Ec2(MOTO_REGION)).find({ owner: 'amazon', name: 'al2023-*' })

const cases: [string, Parameters<AwsProxy['inject']>[1], object][] = [
  [
    'a permission',
    { status: 403, code: 'UnauthorizedOperation' },
    { code: 'ec2_denied', next: expect.stringContaining('allow ec2:DescribeImages ') },
  ],
  [
    'credentials',
    { status: 401, code: 'AuthFailure' },
    { code: 'ec2_denied', next: expect.stringContaining('aws sts get-caller-identity') },
  ],
  [
    'an expired session',
    { status: 400, code: 'RequestExpired' },
    { code: 'ec2_denied', next: expect.stringContaining('credentials') },
  ],
  ['too many requests', { status: 503, code: 'RequestLimitExceeded' }, { code: 'ec2_throttled' }],
  ['a quota', { status: 400, code: 'VcpuLimitExceeded' }, { code: 'ec2_limit', next: expect.stringContaining('bake prune') }],
  ['a zone without room', { status: 500, code: 'InsufficientInstanceCapacity' }, { code: 'ec2_capacity' }],
  ['a subscription', { status: 401, code: 'OptInRequired' }, { code: 'ec2_not_subscribed' }],
  [
    'what nobody knows',
    { status: 400, code: 'SomethingNew' },
    { code: 'ec2_refused', message: expect.stringContaining('SomethingNew') },
  ],
  ['EC2 itself', { status: 500, code: 'InternalError' }, { code: 'ec2_unreachable' }],
  ['the connection', 'reset', { code: 'ec2_unreachable', next: expect.stringContaining('network') }],
]
test.for(cases)('when it is about %s', async ([, fault, error]) => {
  proxy.inject({ service: 'ec2' }, fault)
  await expect(look()).rejects.toMatchObject({
    exit: 4,
    kind: 'world',
    ids: { action: 'DescribeImages', region: MOTO_REGION },
    ...error,
  })
})

test('one bad answer is nothing that anybody sees', async () => {
  proxy.inject({ service: 'ec2' }, { status: 503, code: 'RequestLimitExceeded' }, 1)
  expect((await look()).length).toBeGreaterThan(0)
})

test('an answer that no document knows is told as one', () => {
  const id = 'ami-0123456789abcdef0'
  expect(() => parseImage({ ImageId: id, State: 'available' }, MOTO_REGION)).toThrow(
    expect.objectContaining({ code: 'ec2_answer', exit: 4, message: expect.stringMatching(/OwnerId.*CreationDate/s) }),
  )
})
