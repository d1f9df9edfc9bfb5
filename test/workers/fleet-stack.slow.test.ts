import { AutoScalingClient, DescribeAutoScalingGroupsCommand } from '@aws-sdk/client-auto-scaling'
import {
  CloudFormationClient,
  CreateStackCommand,
  DescribeStackResourcesCommand,
  DescribeStacksCommand,
  type StackResource,
} from '@aws-sdk/client-cloudformation'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BakeResult, runBake } from '../support/bake.ts'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'
import { makeRepo, type TestRepo } from '../support/repo.ts'
import { GIVEN, readTemplate, readWorkersFile } from './template.ts'

/** moto's CloudFormation makes no such resource; fleet-template.test.ts looks at these. */
const NOT_IN_MOTO = [
  'AWS::AutoScaling::ScalingPolicy',
  'AWS::CloudWatch::Alarm',
  'AWS::S3::BucketPolicy',
  'AWS::SNS::Subscription',
]
/** One that moto has. */
const AMI = 'ami-12c6146b'
const NETWORK = {
  Resources: {
    Vpc: { Type: 'AWS::EC2::VPC', Properties: { CidrBlock: '10.9.0.0/16' } },
    Subnet: {
      Type: 'AWS::EC2::Subnet',
      Properties: { VpcId: { Ref: 'Vpc' }, CidrBlock: '10.9.1.0/24', AvailabilityZone: `${MOTO_REGION}a` },
    },
  },
  Outputs: { Vpc: { Value: { Ref: 'Vpc' } }, Subnet: { Value: { Ref: 'Subnet' } } },
}

let moto: Moto
let repo: TestRepo
let resources: StackResource[]
const stack = new AsyncDisposableStack()

beforeAll(async () => {
  moto = stack.use(await startMoto())
  const client = { endpoint: moto.endpoint, region: MOTO_REGION, credentials: { accessKeyId: 'test', secretAccessKey: 'test' } }
  const ssm = new SSMClient(client)
  await ssm.send(new PutParameterCommand({ Name: '/test/ami', Value: AMI, Type: 'String' }))
  const cloudFormation = new CloudFormationClient(client)
  const make = async (StackName: string, TemplateBody: string, given: Record<string, string>) => {
    const Parameters = Object.entries(given).map(([ParameterKey, ParameterValue]) => ({ ParameterKey, ParameterValue }))
    await cloudFormation.send(new CreateStackCommand({ StackName, TemplateBody, Parameters, Capabilities: ['CAPABILITY_IAM'] }))
    const { Stacks } = await cloudFormation.send(new DescribeStacksCommand({ StackName }))
    expect(Stacks![0]!.StackStatus).toBe('CREATE_COMPLETE')
    return Object.fromEntries(Stacks![0]!.Outputs!.map(({ OutputKey, OutputValue }) => [OutputKey, OutputValue!]))
  }
  const network = await make('network', JSON.stringify(NETWORK), {})
  const given = { VpcId: network.Vpc!, SubnetIds: network.Subnet!, ImageId: '/test/ami', Shards: '2', OnDemandShare: '50' }
  // moto looks up the default too, and knows no public parameter of Debian's.
  const body = readWorkersFile('fleet.yaml').replace(/\/aws\/service\/debian\S+/, '/test/ami')
  const bakes = { BakePolicyArns: 'arn:aws:iam::123456789012:policy/bake-baker,arn:aws:iam::123456789012:policy/bake-prover' }
  await make('fleet', body, { ...GIVEN, ...given, ...bakes, MinWorkers: '1', MaxWorkers: '3' })
  const { StackResources } = await cloudFormation.send(new DescribeStackResourcesCommand({ StackName: 'fleet' }))
  resources = StackResources!
  repo = stack.use(
    await makeRepo({
      files: {
        'bake.yaml': `project: shop
repository: https://git.example.com/acme/shop
registry: registry.example.com/shop
aws: { region: ${MOTO_REGION}, queue: bake, bucket: ${GIVEN.BucketName} }
fleet: { shards: 2 }
images: { web: . }
`,
      },
    }),
  )
  ssm.destroy()
  cloudFormation.destroy()
}, 240_000)
afterAll(() => stack.disposeAsync())

describe('the stack of workers/fleet.yaml', () => {
  test('has every resource that this many shards call for', () => {
    const made = new Set(resources.map(({ LogicalResourceId }) => LogicalResourceId))
    for (const [name, { Type, Condition = '' }] of Object.entries(readTemplate().Resources)) {
      if (NOT_IN_MOTO.includes(Type)) continue
      expect([name, made.has(name)]).toEqual([name, !['Makes3', 'Makes4', 'HasEmail'].includes(Condition)])
    }
  })

  test('starts workers of either type, from the template with IMDSv2', async () => {
    const client = new AutoScalingClient({
      endpoint: moto.endpoint,
      region: MOTO_REGION,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    })
    const { AutoScalingGroups } = await client.send(
      new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: ['fleet-workers'] }),
    )
    client.destroy()
    const [group] = AutoScalingGroups!
    expect(group).toMatchObject({ MinSize: 1, MaxSize: 3, HealthCheckType: 'EC2' })
    expect(group!.MixedInstancesPolicy!.LaunchTemplate!.Overrides!.map(({ InstanceType }) => InstanceType)).toEqual([
      'm7i.xlarge',
      'm6i.xlarge',
    ])
    expect(Number(group!.MixedInstancesPolicy!.InstancesDistribution!.OnDemandPercentageAboveBaseCapacity)).toBe(50)
    const version = await ask('ec2', { Action: 'DescribeLaunchTemplateVersions', LaunchTemplateName: 'fleet-workers' })
    expect(version).toContain('<httpTokens>required</httpTokens>')
    expect(version).toContain(`<imageId>${AMI}</imageId>`)
    const [, data = ''] = /<userData>([^<]*)<\/userData>/.exec(version) ?? []
    expect(Buffer.from(data, 'base64').toString()).toContain(readWorkersFile('user-data.sh'))
  })

  test('lets EC2 give the role to the workers', async () => {
    const role = resources.find(({ LogicalResourceId }) => LogicalResourceId === 'Role')!.PhysicalResourceId!
    const answer = await ask('iam', { Action: 'GetRolePolicy', RoleName: role, PolicyName: 'bake-worker' })
    expect(decodeURIComponent(answer)).toContain('sqs:ReceiveMessage')
  })

  test('leaves nothing to do for bake setup', async () => {
    const { code, stdout, stderr } = await setup('--dry-run', '--json')
    expect(code, stderr).toBe(0)
    // What moto's CloudFormation leaves out of a bucket.
    const left = ['bucket.private', 'bucket.tlsOnly', 'bucket.expiryDays']
    const plan = JSON.parse(stdout).plan as { kind: string; differences: { setting: string }[] }[]
    const open = plan.flatMap(({ kind, differences }) => differences.map(({ setting }) => `${kind}.${setting}`))
    expect(open.filter((each) => !left.includes(each))).toEqual([])
  })

  test('is finished by bake setup', async () => {
    expect(await setup('--yes')).toMatchObject({ code: 0 })
    expect(JSON.parse((await setup('--dry-run', '--json')).stdout).plan).toEqual([])
  })
})

const setup = (...args: string[]): Promise<BakeResult> => runBake(['setup', ...args], { cwd: repo.dir, env: moto.env })

/** A call of the query protocol, as of services whose SDK isn't worth a dependency. */
async function ask(service: string, parameters: Record<string, string>): Promise<string> {
  const scope = `test/20260101/${MOTO_REGION}/${service}/aws4_request`
  const answer = await fetch(moto.endpoint, {
    method: 'POST',
    headers: { authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=0` },
    body: new URLSearchParams({ ...parameters, Version: service === 'ec2' ? '2016-11-15' : '2010-05-08' }),
  })
  expect(answer.status).toBe(200)
  return answer.text()
}
