import { DescribeSecurityGroupsCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2BuilderGroups } from '../../src/io/ec2-builder-group.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

let world: TestEc2
let groups: Ec2BuilderGroups
beforeAll(async () => {
  world = await startEc2()
  groups = new Ec2BuilderGroups(new Ec2(MOTO_REGION))
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  world.gaps.denied.clear()
  world.gaps.refuse = () => undefined
})

const named = async (name: string) => {
  const Filters = [{ Name: 'group-name', Values: [name] }]
  return (await world.client().send(new DescribeSecurityGroupsCommand({ Filters }))).SecurityGroups ?? []
}

test('lets SSH in from where it is told, carries its run’s tags, and goes', async () => {
  const name = uniqueName('bake')
  const id = await groups.make({ name, tags: { 'bake:run': 'r1' }, cidrs: ['203.0.113.7/32', '2001:db8::/64'] })
  const [made] = await named(name)
  expect(made).toMatchObject({ GroupId: id, Tags: [{ Key: 'bake:run', Value: 'r1' }] })
  expect(made?.IpPermissions).toMatchObject([
    {
      FromPort: 22,
      ToPort: 22,
      IpProtocol: 'tcp',
      IpRanges: [{ CidrIp: '203.0.113.7/32' }],
      Ipv6Ranges: [{ CidrIpv6: '2001:db8::/64' }],
    },
  ])
  await groups.remove(id)
  await groups.remove(id)
  expect(await named(name)).toEqual([])
})

test('is waited for while an instance still has it', async () => {
  const name = uniqueName('bake')
  const id = await groups.make({ name, tags: { a: 'b' }, cidrs: ['0.0.0.0/0'] })
  let times = 0
  world.gaps.refuse = (action) => (action === 'DeleteSecurityGroup' && times++ === 0 ? 'DependencyViolation' : undefined)
  await groups.remove(id)
  expect(times).toBe(2)
  expect(await named(name)).toEqual([])
})

test('isn’t left behind when it can’t be opened: the action is named', async () => {
  const name = uniqueName('bake')
  world.gaps.denied.add('AuthorizeSecurityGroupIngress')
  const making = groups.make({ name, tags: { a: 'b' }, cidrs: ['0.0.0.0/0'] })
  await expect(making).rejects.toMatchObject({
    code: 'ec2_denied',
    next: expect.stringContaining('ec2:AuthorizeSecurityGroupIngress'),
  })
  expect(await named(name)).toEqual([])
})
