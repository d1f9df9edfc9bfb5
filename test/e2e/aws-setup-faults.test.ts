import { DescribeRepositoriesCommand, ECRClient } from '@aws-sdk/client-ecr'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { type AwsFault, type AwsPattern, type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { type Moto, startMoto, uniqueName } from '../support/moto.ts'
import { makeProject, type TestProject } from '../support/project.ts'

/** Several processes each, beside whatever else the machine does. */
vi.setConfig({ testTimeout: 180_000 })

let moto: Moto
let aws: AwsProxy

beforeAll(async () => {
  moto = await startMoto()
  aws = await startAwsProxy(moto.endpoint)
}, 180_000)
afterEach(() => aws.heal())
afterAll(async () => {
  await aws?.[Symbol.asyncDispose]()
  await moto?.[Symbol.asyncDispose]()
})

const fleet = async (path = uniqueName('shop')): Promise<TestProject> =>
  makeProject(
    {
      'bake.yaml': `project: shop
repository: https://git.example.com/shop.git
aws: { region: us-east-1, queue: ${uniqueName('q')}, bucket: ${uniqueName('ledger')} }
registry: 123456789012.dkr.ecr.us-east-1.amazonaws.com/${path}
images: { web: web }
`,
    },
    { ...moto.env, AWS_ENDPOINT_URL: aws.endpoint },
  )

const denied: AwsFault = { status: 403, code: 'AccessDenied' }

describe('what AWS refuses names a next step, and a run after that goes on', () => {
  test.each<[string, AwsPattern, AwsFault, object]>([
    ['a bucket of others', { service: 's3', action: 'HEAD' }, denied, { code: 'bucket_denied', exit: 4 }],
    [
      'the name of a bucket of others',
      { service: 's3', action: 'PUT' },
      { status: 409, code: 'BucketAlreadyExists' },
      { code: 'bucket_taken', exit: 2, next: expect.stringContaining('aws.bucket') },
    ],
    ['no permission to make a queue', { service: 'sqs', action: 'CreateQueue' }, denied, { code: 'queue_denied', exit: 4 }],
    [
      'a queue that was deleted just now',
      { service: 'sqs', action: 'CreateQueue' },
      { status: 400, code: 'QueueDeletedRecently' },
      { code: 'queue_deleted', exit: 4, next: expect.stringContaining('in a minute') },
    ],
    [
      'no permission to make a repository',
      { service: 'ecr', action: 'CreateRepository' },
      { status: 400, code: 'AccessDeniedException' },
      { code: 'registry_denied', exit: 4, next: expect.stringContaining('bake setup --policies') },
    ],
  ])('%s', async (_, pattern, fault, error) => {
    await using project = await fleet()
    aws.inject(pattern, fault)
    const refused = await project.bake(['setup', '--yes', '--json'])
    expect(JSON.parse(refused.stdout)).toMatchObject({ error })
    expect(refused.code).toBe((error as { exit: number }).exit)
    aws.heal()
    const made = await project.bake(['setup', '--yes'])
    expect(made, made.stderr).toMatchObject({ code: 0 })
  })
})

test('an ECR without exclusion filters: tags can move there, which is told each time and planned no more', async () => {
  const path = uniqueName('shop')
  await using project = await fleet(path)
  const parameter = { status: 400, code: 'InvalidParameterException' }
  for (const action of ['CreateRepository', 'PutImageTagMutability'])
    aws.inject({ service: 'ecr', action, about: /IMMUTABLE_WITH_EXCLUSION/ }, parameter)
  const made = await project.bake(['setup', '--yes'])
  expect(made, made.stderr).toMatchObject({ code: 0 })
  const ecr = new ECRClient({
    endpoint: moto.endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const { repositories } = await ecr.send(new DescribeRepositoriesCommand({ repositoryNames: [`${path}/web`] }))
  ecr.destroy()
  expect(repositories).toMatchObject([{ imageTagMutability: 'MUTABLE', imageScanningConfiguration: { scanOnPush: true } }])
  const again = await project.bake(['setup'])
  expect(again, again.stderr).toMatchObject({ code: 0 })
  expect(again.stdout).toMatch(/^nothing to do/)
  expect(again.stderr).toMatch(/web: tags can't be had here; all of its tags can move/)
})
