import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { type Policy, policiesFor, policyNotes, type Role } from '../../src/setup/policies.ts'
import type { SetupTarget } from '../../src/setup/types.ts'

const target: SetupTarget = {
  partition: 'aws',
  aws: {
    region: 'us-east-1',
    bucket: 'ledger',
    ledgerPrefix: 'team-a/',
    queues: ['bake', 'bake-high'],
    deadQueue: 'bake-dead',
    parameters: ['/shop/npm'],
    noticeQueues: ['arn:aws:sqs:eu-west-1:210987654321:told'],
  },
  ecr: { account: '123456789012', region: 'us-east-1', images: ['shop/web'], cache: 'shop/bake-cache' },
  registry: '123456789012.dkr.ecr.us-east-1.amazonaws.com/shop',
}

const policies = policiesFor(target)
const actions = (policy: Policy) => policy.Statement.flatMap(({ Action }) => Action)
/** What `policy` lets `action` do, as ARNs. */
const reach = (policy: Policy, action: string) =>
  policy.Statement.filter(({ Action }) => Action.includes(action)).flatMap(({ Resource }) => Resource)

/**
 * Whose policies have the action of each call that src/io makes. Most actions are called like the command; the others are here:
 * https://docs.aws.amazon.com/service-authorization/latest/reference/
 */
const CALLS: Record<string, { action?: string; roles: Role[] }> = {
  'sqs:GetQueueUrl': { roles: ['person', 'worker', 'setup'] },
  'sqs:SendMessage': { roles: ['person', 'worker'] },
  'sqs:ReceiveMessage': { roles: ['worker'] },
  'sqs:ChangeMessageVisibility': { roles: ['worker'] },
  'sqs:DeleteMessage': { roles: ['worker'] },
  'sqs:GetQueueAttributes': { roles: ['person', 'worker', 'setup'] },
  'sqs:CreateQueue': { roles: ['setup'] },
  'sqs:SetQueueAttributes': { roles: ['setup'] },
  's3:GetObject': { roles: ['person', 'worker'] },
  's3:HeadObject': { action: 's3:GetObject', roles: ['person', 'worker'] },
  's3:PutObject': { roles: ['person', 'worker'] },
  's3:ListObjectsV2': { action: 's3:ListBucket', roles: ['person', 'worker'] },
  's3:HeadBucket': { action: 's3:ListBucket', roles: ['setup'] },
  's3:CreateBucket': { roles: ['setup'] },
  's3:GetBucketPolicy': { roles: ['setup'] },
  's3:PutBucketPolicy': { roles: ['setup'] },
  's3:GetBucketEncryption': { action: 's3:GetEncryptionConfiguration', roles: ['setup'] },
  's3:PutBucketEncryption': { action: 's3:PutEncryptionConfiguration', roles: ['setup'] },
  's3:GetPublicAccessBlock': { action: 's3:GetBucketPublicAccessBlock', roles: ['setup'] },
  's3:PutPublicAccessBlock': { action: 's3:PutBucketPublicAccessBlock', roles: ['setup'] },
  's3:GetBucketLifecycleConfiguration': { action: 's3:GetLifecycleConfiguration', roles: ['setup'] },
  's3:PutBucketLifecycleConfiguration': { action: 's3:PutLifecycleConfiguration', roles: ['setup'] },
  'ecr:GetAuthorizationToken': { roles: ['person', 'worker', 'builder'] },
  'ecr:CreateRepository': { roles: ['setup'] },
  'ecr:DescribeRepositories': { roles: ['setup'] },
  'ecr:GetLifecyclePolicy': { roles: ['setup'] },
  'ecr:ListTagsForResource': { roles: ['setup'] },
  'ecr:PutImageScanningConfiguration': { roles: ['setup'] },
  'ecr:PutImageTagMutability': { roles: ['setup'] },
  'ecr:PutLifecyclePolicy': { roles: ['setup'] },
  'ecr:TagResource': { roles: ['setup'] },
  'ssm:GetParameter': { roles: ['worker'] },
  'auto-scaling:DescribeAutoScalingInstances': { action: 'autoscaling:DescribeAutoScalingInstances', roles: ['worker'] },
  'auto-scaling:DescribeLifecycleHooks': { action: 'autoscaling:DescribeLifecycleHooks', roles: ['worker'] },
  'auto-scaling:SetInstanceProtection': { action: 'autoscaling:SetInstanceProtection', roles: ['worker'] },
  'auto-scaling:CompleteLifecycleAction': { action: 'autoscaling:CompleteLifecycleAction', roles: ['worker'] },
  'auto-scaling:RecordLifecycleActionHeartbeat': { action: 'autoscaling:RecordLifecycleActionHeartbeat', roles: ['worker'] },
}

/** `sqs:SendMessage` for every command class that a file of src takes from an SDK client. */
function callsOfCode(): string[] {
  const root = fileURLToPath(new URL('../../src/', import.meta.url))
  const found = globSync('**/*.ts', { cwd: root }).flatMap((path) => {
    const text = readFileSync(`${root}${path}`, 'utf8')
    const service = /@aws-sdk\/client-([a-z0-9-]+)/.exec(text)?.[1]
    if (service === undefined) return []
    return [...text.matchAll(/\bnew (?:[\w.#]+\.)?([A-Z]\w+)Command\(/g)].map(([, name]) => `${service}:${name}`)
  })
  return [...new Set(found)].sort()
}

test('every call that the code makes is known here', () => {
  const calls = callsOfCode()
  expect(calls.length).toBeGreaterThan(25)
  expect(calls.filter((call) => CALLS[call] === undefined)).toEqual([])
})

test('each is allowed to whoever makes it', () => {
  const missing = Object.entries(CALLS).flatMap(([call, { action = call, roles }]) =>
    roles.filter((role) => !actions(policies[role]).includes(action)).map((role) => `${role}: ${action}`),
  )
  expect(missing).toEqual([])
})

test('nobody is allowed what nobody calls', () => {
  // What the registry itself asks for when images are pulled and pushed: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
  const registry = [
    'ecr:BatchGetImage',
    'ecr:GetDownloadUrlForLayer',
    'ecr:BatchCheckLayerAvailability',
    'ecr:InitiateLayerUpload',
    'ecr:UploadLayerPart',
    'ecr:CompleteLayerUpload',
    'ecr:PutImage',
  ]
  const called = new Set([...registry, ...Object.entries(CALLS).map(([call, { action = call }]) => action)])
  const idle = Object.values(policies).flatMap((policy) => actions(policy).filter((action) => !called.has(action)))
  expect(idle).toEqual([])
})

describe('what each may reach', () => {
  test('queues, images and parameters by name, nothing by a star but what has no name', () => {
    const starred = Object.values(policies).flatMap(({ Statement }) => Statement.filter(({ Resource }) => Resource.includes('*')))
    expect([...new Set(starred.flatMap(({ Action }) => Action))]).toEqual([
      'ecr:GetAuthorizationToken',
      'autoscaling:DescribeAutoScalingInstances',
      'autoscaling:DescribeLifecycleHooks',
    ])
    expect(reach(policies.person, 'sqs:SendMessage')).toEqual([
      'arn:aws:sqs:us-east-1:123456789012:bake',
      'arn:aws:sqs:us-east-1:123456789012:bake-high',
    ])
    expect(reach(policies.worker, 'sqs:SendMessage')).toEqual([
      'arn:aws:sqs:us-east-1:123456789012:bake-dead',
      'arn:aws:sqs:eu-west-1:210987654321:told',
    ])
    expect(reach(policies.worker, 'ssm:GetParameter')).toEqual(['arn:aws:ssm:us-east-1:123456789012:parameter/shop/npm'])
  })

  test('a person writes what askers write, never a claim or an image', () => {
    expect(reach(policies.person, 's3:PutObject').map((arn) => arn.replace('arn:aws:s3:::ledger/team-a/', ''))).toEqual([
      'askers/*',
      'asks/*',
      'builds/*',
      'cancels/*',
      'commits/*',
    ])
    expect(reach(policies.person, 'ecr:PutImage')).toEqual([])
  })

  test('a worker pushes images and caches, a builder instance pulls images only', () => {
    expect(reach(policies.worker, 'ecr:PutImage')).toEqual([
      'arn:aws:ecr:us-east-1:123456789012:repository/shop/web',
      'arn:aws:ecr:us-east-1:123456789012:repository/shop/bake-cache',
    ])
    expect(actions(policies.builder)).toEqual(['ecr:GetAuthorizationToken', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'])
    expect(reach(policies.builder, 'ecr:BatchGetImage')).toEqual(['arn:aws:ecr:us-east-1:123456789012:repository/shop/web'])
  })

  test('a fleet with a prefix lists below it, and is still told what isn’t there', () => {
    const [list] = policies.worker.Statement.filter(({ Action }) => Action.includes('s3:ListBucket'))
    expect(list?.Condition).toEqual({ StringLikeIfExists: { 's3:prefix': 'team-a/*' } })
  })

  test('statements are told apart, and none is empty', () => {
    const plain = policiesFor({ ...target, aws: { ...target.aws!, parameters: [], noticeQueues: [] } })
    for (const { Statement } of Object.values(plain)) {
      expect(new Set(Statement.map(({ Sid }) => Sid)).size).toBe(Statement.length)
      expect(Statement.every(({ Resource }) => Resource.length > 0)).toBe(true)
    }
  })
})

test('an account that nothing tells is left for the person to fill in', () => {
  const { ecr: _, ...rest } = target
  const elsewhere: SetupTarget = { ...rest, registry: 'registry.example.com/shop' }
  expect(policyNotes(elsewhere)).toEqual([expect.stringContaining('<account>')])
  expect(reach(policiesFor(elsewhere).person, 'sqs:SendMessage')[0]).toBe('arn:aws:sqs:us-east-1:<account>:bake')
  expect(policyNotes(target)).toEqual([])
})
