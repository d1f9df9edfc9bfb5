import {
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupEgressCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateRouteCommand,
  DescribeRouteTablesCommand,
  DescribeVpcsCommand,
  ModifyVpcAttributeCommand,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { AwsProofNetwork } from '../../src/io/aws-proof-network.ts'
import type { Resource } from '../../src/io/aws-resource.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Network } from '../../src/io/ec2-network.ts'
import { desiredResources } from '../../src/setup/desired.ts'
import { stepFor } from '../../src/setup/plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'

/** A region for each test: there is one such network in a region. */
const REGIONS = ['us-east-1', 'us-east-2', 'us-west-2', 'eu-west-1', 'eu-central-1', 'ap-southeast-2', 'ap-south-1'].values()

let world: TestEc2
let region: string
let store: AwsProofNetwork
let network: Ec2Network
let wanted: Resource
beforeAll(async () => {
  world = await startEc2()
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  world.gaps.denied.clear()
  region = REGIONS.next().value!
  store = new AwsProofNetwork(region)
  network = new Ec2Network(new Ec2(region))
  wanted = desiredResources({ partition: 'aws', machine: { project: 'shop', region, copies: [] } })[0]!
})

const planned = async () => stepFor(wanted, await store.look(wanted))

test('is made with nothing that leads out of it, in three zones, and found again', async () => {
  expect(await planned()).toMatchObject({ action: 'create', kind: 'network', name: 'bake-proof' })
  await store.create(wanted)
  const made = (await network.find())!
  expect(made).toMatchObject({ routes: [], dns: false, open: false, group: expect.stringMatching(/^sg-/) })
  expect(new Set(made.subnets.map(({ zone }) => zone)).size).toBe(3)
  expect(await planned()).toBeUndefined()
  await store.create(wanted)
  expect(await network.find()).toEqual(made)
})

test('what was opened is closed again', async () => {
  await store.create(wanted)
  const { vpc, group } = (await network.find())!
  const ec2 = world.client(region)
  const { InternetGateway } = await ec2.send(new CreateInternetGatewayCommand({}))
  const GatewayId = InternetGateway!.InternetGatewayId
  await ec2.send(new AttachInternetGatewayCommand({ InternetGatewayId: GatewayId, VpcId: vpc }))
  const Filters = [{ Name: 'vpc-id', Values: [vpc] }]
  const { RouteTables } = await ec2.send(new DescribeRouteTablesCommand({ Filters }))
  const RouteTableId = RouteTables![0]!.RouteTableId
  await ec2.send(new CreateRouteCommand({ RouteTableId, DestinationCidrBlock: '0.0.0.0/0', GatewayId }))
  await ec2.send(new ModifyVpcAttributeCommand({ VpcId: vpc, EnableDnsSupport: { Value: true } }))
  const IpPermissions = [{ IpProtocol: 'tcp', FromPort: 443, ToPort: 443, IpRanges: [{ CidrIp: '0.0.0.0/0' }] }]
  await ec2.send(new AuthorizeSecurityGroupEgressCommand({ GroupId: group, IpPermissions }))
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: group, IpPermissions }))
  expect(await network.find()).toMatchObject({ routes: ['0.0.0.0/0'], dns: true, open: true })

  const step = await planned()
  expect(step).toMatchObject({
    action: 'change',
    differences: [
      { setting: 'routes', from: ['0.0.0.0/0'], to: [] },
      { setting: 'dns', from: true, to: false },
      { setting: 'traffic', from: 'some', to: 'none' },
    ],
  })
  await store.change(
    wanted,
    step!.differences.map(({ setting }) => setting),
  )
  expect(await planned()).toBeUndefined()
})

test('what a killed setup left is gone on with: one network, whole', async () => {
  await network.makeVpc()
  expect(await planned()).toMatchObject({
    action: 'change',
    differences: [{ setting: 'zones' }, { setting: 'dns' }, { setting: 'traffic' }],
  })
  await store.change(wanted, ['zones', 'dns', 'traffic'])
  expect(await planned()).toBeUndefined()
  const Filters = [{ Name: 'tag:bake:network', Values: ['proof'] }]
  expect((await world.client(region).send(new DescribeVpcsCommand({ Filters }))).Vpcs).toHaveLength(1)
})

test('a region with two zones has two', async () => {
  region = 'us-west-1'
  network = new Ec2Network(new Ec2(region))
  store = new AwsProofNetwork(region)
  await store.create(wanted)
  expect((await network.find())?.subnets).toHaveLength((await network.zones()).length)
  expect((await network.zones()).length).toBe(2)
  expect(await planned()).toBeUndefined()
})

describe('without permission', () => {
  test.for(['CreateVpc', 'DescribeVpcs'])('for %s nothing is made, and the action is named', async (action) => {
    world.gaps.denied.add(action)
    await expect(store.create(wanted)).rejects.toMatchObject({
      code: 'ec2_denied',
      next: expect.stringContaining(`ec2:${action}`),
    })
    world.gaps.denied.clear()
    expect(await network.find()).toBeUndefined()
  })
})
