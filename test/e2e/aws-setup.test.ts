import {
  DescribeRepositoriesCommand,
  ECRClient,
  GetLifecyclePolicyCommand,
  PutImageTagMutabilityCommand,
} from '@aws-sdk/client-ecr'
import {
  CreateBucketCommand,
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketLocationCommand,
  GetBucketPolicyCommand,
  GetPublicAccessBlockCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketPolicyCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { GetQueueAttributesCommand, GetQueueUrlCommand, SetQueueAttributesCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Moto, startMoto, uniqueName } from '../support/moto.ts'
import { makeProject, type TestProject } from '../support/project.ts'

/** Several processes each, beside whatever else the machine does. */
vi.setConfig({ testTimeout: 180_000 })

let moto: Moto
let s3: S3Client
let sqs: SQSClient
let ecr: ECRClient

beforeAll(async () => {
  moto = await startMoto()
  const client = { endpoint: moto.endpoint, region: 'us-east-1', credentials: { accessKeyId: 'test', secretAccessKey: 'test' } }
  s3 = new S3Client({ ...client, forcePathStyle: true })
  sqs = new SQSClient({ ...client, useQueueUrlAsEndpoint: false })
  ecr = new ECRClient(client)
}, 180_000)

afterAll(async () => {
  for (const client of [s3, sqs, ecr]) client?.destroy()
  await moto?.[Symbol.asyncDispose]()
})

interface Names {
  queue: string
  bucket: string
  path: string
}

const newNames = (): Names => ({ queue: uniqueName('q'), bucket: uniqueName('ledger'), path: uniqueName('shop') })

const fleet = async ({ queue, bucket, path }: Names, { region = 'us-east-1', more = '' } = {}): Promise<TestProject> =>
  makeProject(
    {
      'bake.yaml': `project: shop
repository: https://git.example.com/shop.git
aws: { region: ${region}, queue: ${queue}, bucket: ${bucket} }
registry: 123456789012.dkr.ecr.${region}.amazonaws.com/${path}
images:
  web: { context: web, secrets: { npm_token: { ssm: /shop/npm } } }
  jobs: { context: jobs }
${more}`,
    },
    { ...moto.env },
  )

const attributes = async (queue: string) => {
  const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: queue }))
  return (await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['All'] }))).Attributes!
}

test('a plan, then everything that is missing, then nothing to do', async () => {
  const names = newNames()
  await using project = await fleet(names, { more: 'fleet: { shards: 2, prefix: team-a }\n' })
  const dry = await project.bake(['setup', '--dry-run'])
  expect(dry, dry.stderr).toMatchObject({ code: 0 })
  const { queue, bucket, path } = names
  const lines = dry.stdout.trim().split('\n')
  expect(lines.map((line) => line.split(/\s+/).slice(0, 4).join(' '))).toEqual(
    [
      ...['-dead', '', '-high', '-1', '-high-1'].map((end) => `queue ${queue}${end}`),
      `bucket ${bucket}`,
      ...['web', 'jobs', 'bake-cache'].map((image) => `repository ${path}/${image}`),
    ].map((what) => `+ create ${what}`),
  )
  await expect(attributes(queue)).rejects.toThrow()

  const asked = await project.bake(['setup'])
  expect(asked).toMatchObject({ code: 2 })
  expect(asked.stderr).toMatch(/next: bake setup --yes/)
  await expect(attributes(queue)).rejects.toThrow()

  const made = await project.bake(['setup', '--yes', '--json'])
  expect(made, made.stderr).toMatchObject({ code: 0 })
  expect(JSON.parse(made.stdout)).toMatchObject({ version: 1, applied: 9, plan: { length: 9 } })

  const dead = await attributes(`${queue}-dead`)
  expect(dead).toMatchObject({ MessageRetentionPeriod: '1209600', SqsManagedSseEnabled: 'true' })
  for (const end of ['', '-high', '-1', '-high-1']) {
    const found = await attributes(`${queue}${end}`)
    expect(found).toMatchObject({
      VisibilityTimeout: '60',
      ReceiveMessageWaitTimeSeconds: '20',
      MessageRetentionPeriod: '345600',
      SqsManagedSseEnabled: 'true',
    })
    expect(JSON.parse(found.RedrivePolicy!)).toEqual({ deadLetterTargetArn: dead.QueueArn, maxReceiveCount: 1000 })
  }
  const Bucket = bucket
  const { Rules = [] } = await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }))
  expect(Object.fromEntries(Rules.map(({ Filter, Expiration }) => [Filter?.Prefix, Expiration?.Days]))).toEqual({
    'team-a/workers/': 7,
    'team-a/beats/': 7,
    'team-a/graves/': 7,
    'team-a/askers/': 30,
    'team-a/asks/': 30,
    'team-a/cancels/': 30,
    'team-a/notices/': 30,
    'team-a/logs/': 90,
    'team-a/builds/': 90,
  })
  const { PublicAccessBlockConfiguration } = await s3.send(new GetPublicAccessBlockCommand({ Bucket }))
  expect(Object.values(PublicAccessBlockConfiguration!)).toEqual([true, true, true, true])
  const { ServerSideEncryptionConfiguration } = await s3.send(new GetBucketEncryptionCommand({ Bucket }))
  expect(ServerSideEncryptionConfiguration?.Rules).toHaveLength(1)
  // A rule that only TLS gets in would shut this fleet out: the emulator's endpoint is plain HTTP.
  await expect(s3.send(new GetBucketPolicyCommand({ Bucket }))).rejects.toThrow('The bucket policy does not exist')

  const repositoryNames = [`${path}/web`, `${path}/jobs`, `${path}/bake-cache`]
  const { repositories = [] } = await ecr.send(new DescribeRepositoriesCommand({ repositoryNames }))
  const cache = repositories.find(({ repositoryName }) => repositoryName?.endsWith('bake-cache'))
  expect(cache).toMatchObject({ imageTagMutability: 'MUTABLE' })
  for (const repository of repositories.filter((each) => each !== cache))
    expect(repository).toMatchObject({ imageScanningConfiguration: { scanOnPush: true } })

  const again = await project.bake(['setup'])
  expect(again, again.stderr).toMatchObject({ code: 0 })
  expect(again.stdout).toBe('nothing to do: 5 queues, 1 bucket, 3 repositories as they should be\n')
})

test('no tagged image ever expires; of caches, those that are old', async () => {
  const names = newNames()
  await using project = await fleet(names)
  expect((await project.bake(['setup', '--yes'])).code).toBe(0)
  const selections = async (name: string) => {
    const input = { repositoryName: `${names.path}/${name}` }
    const { lifecyclePolicyText } = await ecr.send(new GetLifecyclePolicyCommand(input))
    return JSON.parse(lifecyclePolicyText!).rules.map(
      ({ selection }: { selection: { tagStatus: string } }) => selection.tagStatus,
    )
  }
  expect(await selections('web')).toEqual(['untagged'])
  expect(await selections('bake-cache')).toEqual(['untagged', 'any'])
})

test('what drifted is changed, what others set stays', async () => {
  const names = newNames()
  await using project = await fleet(names)
  expect((await project.bake(['setup', '--yes'])).code).toBe(0)
  const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: names.queue }))
  const Attributes = { VisibilityTimeout: '5', MessageRetentionPeriod: '1000000' }
  await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes }))
  const Bucket = names.bucket
  const theirs = { ID: 'theirs', Status: 'Enabled' as const, Filter: { Prefix: 'reports/' }, Expiration: { Days: 1 } }
  const longer = { ID: 'longer', Status: 'Enabled' as const, Filter: { Prefix: 'logs/' }, Expiration: { Days: 365 } }
  const LifecycleConfiguration = { Rules: [theirs, longer] }
  await s3.send(new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration }))
  const statement = {
    Sid: 'Theirs',
    Effect: 'Allow',
    Principal: { AWS: 'arn:aws:iam::123456789012:root' },
    Action: 's3:GetObject',
    Resource: `arn:aws:s3:::${Bucket}/*`,
  }
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] })
  await s3.send(new PutBucketPolicyCommand({ Bucket, Policy }))
  const repositoryName = `${names.path}/jobs`
  await ecr.send(new PutImageTagMutabilityCommand({ repositoryName, imageTagMutability: 'IMMUTABLE' }))

  const planned = await project.bake(['setup', '--dry-run', '--json'])
  const { plan } = JSON.parse(planned.stdout)
  expect(plan).toMatchObject([
    { action: 'change', name: names.queue, differences: [{ setting: 'visibilitySeconds', from: 5, to: 60 }] },
    { action: 'change', name: Bucket, differences: [{ setting: 'expiryDays' }] },
    {
      action: 'change',
      name: repositoryName,
      differences: [{ setting: 'tags', from: { mutability: 'IMMUTABLE', movable: [] } }],
    },
  ])
  const changed = await project.bake(['setup', '--yes'])
  expect(changed, changed.stderr).toMatchObject({ code: 0 })
  expect(changed.stdout).toContain('visibilitySeconds: 5 → 60')
  const { Rules = [] } = await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }))
  expect(Rules).toEqual(expect.arrayContaining([expect.objectContaining(theirs), expect.objectContaining(longer)]))
  expect(Rules).toHaveLength(10)
  expect(JSON.parse((await s3.send(new GetBucketPolicyCommand({ Bucket }))).Policy!).Statement).toEqual([statement])
  expect((await project.bake(['setup'])).stdout).toMatch(/^nothing to do/)
})

test('two fleets on one bucket: each has rules of its own', async () => {
  const names = newNames()
  await using one = await fleet(names, { more: 'fleet: { prefix: one }\n' })
  await using two = await fleet({ ...names, queue: uniqueName('q') }, { more: 'fleet: { prefix: two }\n' })
  for (const project of [one, two, one]) expect((await project.bake(['setup', '--yes'])).code).toBe(0)
  const { Rules = [] } = await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket: names.bucket }))
  expect(Rules).toHaveLength(18)
  for (const project of [one, two]) expect((await project.bake(['setup'])).stdout).toMatch(/^nothing to do/)
})

test('killed in the middle, a second run does the rest', async () => {
  const names = newNames()
  await using project = await fleet(names, { more: 'fleet: { shards: 8 }\n' })
  await using running = project.start(['setup', '--yes'])
  await running.waitFor('stderr', /created queue/)
  running.kill('SIGKILL')
  await running.wait()
  const again = await project.bake(['setup', '--yes', '--json'])
  expect(again, again.stderr).toMatchObject({ code: 0 })
  expect(JSON.parse(again.stdout).applied).toBeLessThan(21)
  expect((await project.bake(['setup'])).stdout).toBe('nothing to do: 17 queues, 1 bucket, 3 repositories as they should be\n')
})

describe('a machine that is baked on AWS', () => {
  const machine = `machine:
  base: { ami: { owner: amazon, name: 'al2023-ami-2023*' } }
  launch_template: shop-web
  ami: { regions: [us-east-1, eu-west-1], kms_key: alias/shop }
  services: { web: { image: web } }
`

  test('has a network for proofs, for all projects of its region', async () => {
    const names = newNames()
    await using project = await fleet(names, { region: 'ca-central-1', more: machine })
    const dry = await project.bake(['setup', '--dry-run'])
    expect(dry.stdout).toMatch(/^\+ create network +bake-proof {2}zones 3, routes, dns false, traffic none$/m)
    const made = await project.bake(['setup', '--yes'])
    expect(made, made.stderr).toMatchObject({ code: 0 })
    expect((await project.bake(['setup'])).stdout).toMatch(/^nothing to do: .*, 1 network as they should be\n$/)
    await using other = await fleet(newNames(), { region: 'ca-central-1', more: machine })
    expect((await other.bake(['setup', '--dry-run'])).stdout).not.toContain('network')
  })

  test('has policies for who bakes, proves and prunes', async () => {
    await using project = await fleet(newNames(), { more: machine })
    const printed = await project.bake(['setup', '--policies'])
    expect(printed, printed.stderr).toMatchObject({ code: 0 })
    expect(Object.keys(JSON.parse(printed.stdout))).toEqual(['person', 'worker', 'builder', 'setup', 'baker', 'prover', 'pruner'])
    expect(printed.stdout).toContain('arn:aws:kms:eu-west-1:123456789012:key/*')
    expect(printed.stderr).toMatch(/bake ami takes person, baker and prover/)
    await using plain = await fleet(newNames(), { more: machine.replace(/base:.*/, 'base: { disk: base.raw }') })
    expect(Object.keys(JSON.parse((await plain.bake(['setup', '--policies'])).stdout))).toHaveLength(4)
  })
})

describe('buckets', () => {
  test('outside us-east-1 name their region', async () => {
    const names = newNames()
    await using project = await fleet(names, { region: 'eu-west-1' })
    const made = await project.bake(['setup', '--yes'])
    expect(made, made.stderr).toMatchObject({ code: 0 })
    const { LocationConstraint } = await s3.send(new GetBucketLocationCommand({ Bucket: names.bucket }))
    expect(LocationConstraint).toBe('eu-west-1')
    expect((await project.bake(['setup'])).stdout).toMatch(/^nothing to do/)
  })

  test('in another region than bake.yaml’s are told, and nothing is made', async () => {
    const names = newNames()
    const CreateBucketConfiguration = { LocationConstraint: 'eu-west-1' as const }
    await s3.send(new CreateBucketCommand({ Bucket: names.bucket, CreateBucketConfiguration }))
    await using project = await fleet(names)
    const refused = await project.bake(['setup', '--yes', '--json'])
    expect(refused).toMatchObject({ code: 2 })
    expect(JSON.parse(refused.stdout).error).toMatchObject({ code: 'bucket_elsewhere', ids: { region: 'eu-west-1' } })
    await expect(attributes(names.queue)).rejects.toThrow()
  })
})

test('a project without AWS has nothing to set up', async () => {
  await using project = await makeProject(undefined, moto.env)
  const refused = await project.bake(['setup'])
  expect(refused).toMatchObject({ code: 2 })
  expect(refused.stderr).toMatch(/neither|no aws: and no ECR registry/)
})
