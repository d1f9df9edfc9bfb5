import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { keys } from '../../src/names.ts'
import { type Policy, policiesFor, policyNotes, type Role } from '../../src/setup/policies.ts'
import type { DeployRole } from '../../src/setup/policies-deploy.ts'
import type { MachineRole } from '../../src/setup/policies-look.ts'
import type { SwapRole } from '../../src/setup/policies-swap.ts'
import type { SetupSwap, SetupTarget } from '../../src/setup/types.ts'

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
/** The roles of machine images besides. */
const machine = { project: 'shop', region: 'us-east-1', copies: ['eu-west-1'], kmsKey: 'alias/shop', launchTemplate: 'shop-web' }
const deploy = { region: 'us-east-1', project: 'shop', groups: ['shop-web'] }
const swap: SetupSwap = {
  region: 'us-east-1',
  project: 'shop',
  groups: { dev: 'shop-dev' },
  tags: [{ 'tag:stack': ['dev-alice'] }, { InstanceIds: ['i-1'] }],
}
type AnyRole = Role | MachineRole | DeployRole | SwapRole
const all = policiesFor({ ...target, machine, deploy, swap }) as Record<AnyRole, Policy>
const actions = (policy: Policy) => policy.Statement.flatMap(({ Action }) => Action)
/** What `policy` lets `action` do, as ARNs. */
const reach = (policy: Policy, action: string) =>
  policy.Statement.filter(({ Action }) => Action.includes(action)).flatMap(({ Resource }) => Resource)

/**
 * Whose policies have the action of each call that src/io makes. Most actions are called like the command; the others are here:
 * https://docs.aws.amazon.com/service-authorization/latest/reference/
 */
const CALLS: Record<string, { action?: string; roles: AnyRole[] }> = {
  'sqs:GetQueueUrl': { roles: ['person', 'worker', 'setup', 'baker', 'deployer'] },
  'sqs:SendMessage': { roles: ['person', 'worker', 'baker', 'deployer'] },
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
  'ssm:CreateDocument': { roles: ['setup'] },
  'ssm:DeleteParameter': { roles: ['swapper', 'deployer'] },
  'ssm:DescribeInstanceInformation': { roles: ['swapper', 'deployer'] },
  'ssm:GetCommandInvocation': { roles: ['swapper', 'deployer'] },
  'ssm:GetDocument': { roles: ['setup', 'swapper'] },
  'ssm:GetParameter': { roles: ['worker', 'swappable'] },
  'ssm:ListCommandInvocations': { roles: ['swapper'] },
  'ssm:ListCommands': { roles: ['deployer'] },
  'ssm:PutParameter': { roles: ['swapper'] },
  'ssm:SendCommand': { roles: ['swapper', 'deployer'] },
  'ssm:UpdateDocument': { roles: ['setup'] },
  'ssm:UpdateDocumentDefaultVersion': { roles: ['setup'] },
  'ebs:CompleteSnapshot': { roles: ['baker', 'prover'] },
  'ebs:GetSnapshotBlock': { roles: ['baker'] },
  'ebs:ListChangedBlocks': { roles: ['baker'] },
  'ebs:ListSnapshotBlocks': { roles: ['baker'] },
  'ebs:PutSnapshotBlock': { roles: ['baker', 'prover'] },
  'ebs:StartSnapshot': { roles: ['baker', 'prover'] },
  'ec2:AuthorizeSecurityGroupIngress': { roles: ['baker'] },
  'ec2:CopyImage': { roles: ['baker'] },
  'ec2:CreateLaunchTemplate': { roles: ['baker'] },
  'ec2:CreateLaunchTemplateVersion': { roles: ['baker'] },
  'ec2:CreateSecurityGroup': { roles: ['baker', 'setup'] },
  'ec2:CreateSubnet': { roles: ['setup'] },
  'ec2:CreateTags': { roles: ['baker', 'prover', 'pruner', 'setup'] },
  'ec2:CreateVpc': { roles: ['setup'] },
  'ec2:DeleteKeyPair': { roles: ['pruner'] },
  'ec2:DeleteLaunchTemplateVersions': { roles: ['pruner'] },
  'ec2:DeleteRoute': { roles: ['setup'] },
  'ec2:DeleteSecurityGroup': { roles: ['baker', 'pruner'] },
  'ec2:DeleteSnapshot': { roles: ['baker', 'prover', 'pruner'] },
  'ec2:DeleteVolume': { roles: ['pruner'] },
  'ec2:DeregisterImage': { roles: ['baker', 'pruner'] },
  'ec2:DescribeAvailabilityZones': { roles: ['setup'] },
  'ec2:DescribeImageAttribute': { roles: ['baker', 'pruner'] },
  'ec2:DescribeImages': { roles: ['baker', 'prover', 'pruner', 'deployer'] },
  'ec2:DescribeInstances': { roles: ['prover', 'pruner', 'swapper'] },
  'ec2:DescribeInstanceStatus': { roles: ['deployer'] },
  'ec2:DescribeInstanceTypes': { roles: ['baker', 'prover', 'deployer'] },
  'ec2:DescribeKeyPairs': { roles: ['pruner'] },
  'ec2:DescribeLaunchTemplates': { roles: ['baker', 'prover', 'pruner', 'deployer'] },
  'ec2:DescribeLaunchTemplateVersions': { roles: ['baker', 'prover', 'pruner', 'deployer'] },
  'ec2:DescribeRouteTables': { roles: ['prover', 'setup'] },
  'ec2:DescribeSecurityGroups': { roles: ['prover', 'pruner', 'setup'] },
  'ec2:DescribeSnapshots': { roles: ['baker', 'prover', 'pruner'] },
  'ec2:DescribeSubnets': { roles: ['prover', 'setup'] },
  'ec2:DescribeVolumes': { roles: ['pruner'] },
  'ec2:DescribeVpcAttribute': { roles: ['prover', 'setup'] },
  'ec2:DescribeVpcs': { roles: ['prover', 'setup'] },
  'ec2:DisableImageDeregistrationProtection': { roles: ['baker'] },
  'ec2:EnableImageDeprecation': { roles: ['baker'] },
  'ec2:EnableImageDeregistrationProtection': { roles: ['baker'] },
  'ec2:GetEbsEncryptionByDefault': { roles: ['baker'] },
  'ec2:GetConsoleOutput': { roles: ['prover'] },
  'ec2:ModifyImageAttribute': { roles: ['baker', 'prover'] },
  'ec2:ModifyLaunchTemplate': { roles: ['baker'] },
  'ec2:ModifyVpcAttribute': { roles: ['setup'] },
  'ec2:RegisterImage': { roles: ['baker'] },
  'ec2:RevokeSecurityGroupEgress': { roles: ['setup'] },
  'ec2:RevokeSecurityGroupIngress': { roles: ['setup'] },
  'ec2:RunInstances': { roles: ['prover', 'deployer'] },
  'ec2:TerminateInstances': { roles: ['prover', 'pruner'] },
  'auto-scaling:CreateOrUpdateTags': { action: 'autoscaling:CreateOrUpdateTags', roles: ['setup'] },
  'auto-scaling:DescribeAutoScalingGroups': {
    action: 'autoscaling:DescribeAutoScalingGroups',
    roles: ['pruner', 'deployer', 'swapper', 'setup'],
  },
  'auto-scaling:DescribeInstanceRefreshes': { action: 'autoscaling:DescribeInstanceRefreshes', roles: ['deployer'] },
  'auto-scaling:StartInstanceRefresh': { action: 'autoscaling:StartInstanceRefresh', roles: ['deployer'] },
  'auto-scaling:RollbackInstanceRefresh': { action: 'autoscaling:RollbackInstanceRefresh', roles: ['deployer'] },
  'auto-scaling:SuspendProcesses': { action: 'autoscaling:SuspendProcesses', roles: ['deployer'] },
  'auto-scaling:ResumeProcesses': { action: 'autoscaling:ResumeProcesses', roles: ['deployer'] },
  'auto-scaling:DescribeLaunchConfigurations': { action: 'autoscaling:DescribeLaunchConfigurations', roles: ['pruner'] },
  'auto-scaling:DescribeAutoScalingInstances': { action: 'autoscaling:DescribeAutoScalingInstances', roles: ['worker'] },
  'auto-scaling:DescribeLifecycleHooks': { action: 'autoscaling:DescribeLifecycleHooks', roles: ['worker'] },
  'auto-scaling:DescribeScalingActivities': { action: 'autoscaling:DescribeScalingActivities', roles: ['deployer'] },
  'auto-scaling:SetInstanceProtection': { action: 'autoscaling:SetInstanceProtection', roles: ['worker', 'deployer'] },
  'auto-scaling:TerminateInstanceInAutoScalingGroup': {
    action: 'autoscaling:TerminateInstanceInAutoScalingGroup',
    roles: ['deployer'],
  },
  'auto-scaling:UpdateAutoScalingGroup': { action: 'autoscaling:UpdateAutoScalingGroup', roles: ['deployer'] },
  'elastic-load-balancing-v2:DeregisterTargets': { action: 'elasticloadbalancing:DeregisterTargets', roles: ['deployer'] },
  'elastic-load-balancing-v2:DescribeTargetGroupAttributes': {
    action: 'elasticloadbalancing:DescribeTargetGroupAttributes',
    roles: ['deployer'],
  },
  'elastic-load-balancing-v2:DescribeTargetHealth': { action: 'elasticloadbalancing:DescribeTargetHealth', roles: ['deployer'] },
  'elastic-load-balancing-v2:RegisterTargets': { action: 'elasticloadbalancing:RegisterTargets', roles: ['deployer'] },
  'auto-scaling:CompleteLifecycleAction': { action: 'autoscaling:CompleteLifecycleAction', roles: ['worker'] },
  'auto-scaling:RecordLifecycleActionHeartbeat': { action: 'autoscaling:RecordLifecycleActionHeartbeat', roles: ['worker'] },
}

/** `sqs:SendMessage` for every command class that a file of src takes from an SDK client. */
function callsOfCode(): string[] {
  const root = fileURLToPath(new URL('../../src/', import.meta.url))
  const found = globSync('**/*.ts', { cwd: root }).flatMap((path) => {
    const text = readFileSync(`${root}${path}`, 'utf8')
    // Adapters share one connection a service.
    const shared = ['ssm', 'autoscaling-client', 'ec2']
      .find((name) => text.includes(` from './${name}.ts'`))
      ?.replace('autoscaling-client', 'auto-scaling')
    const service = /@aws-sdk\/client-([a-z0-9-]+)/.exec(text)?.[1] ?? shared
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
    roles.filter((role) => !actions(all[role]).includes(action)).map((role) => `${role}: ${action}`),
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
  // What Packer's amazon-ebs asks for besides (https://developer.hashicorp.com/packer/integrations/hashicorp/amazon, "IAM Task or Instance Role"), and EC2 in
  // its callers' name when a key encrypts a snapshot (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AMIEncryption.html).
  const packer = [
    'ec2:CreateImage',
    'ec2:DescribeInstanceStatus',
    'ec2:DescribeRegions',
    'ec2:ModifyInstanceAttribute',
    'ec2:StopInstances',
  ]
  const dataKeys = ['GenerateDataKey', 'GenerateDataKeyWithoutPlaintext']
  const encryption = ['CreateGrant', 'Decrypt', 'DescribeKey', ...dataKeys, 'ReEncryptFrom', 'ReEncryptTo']
  const keys = encryption.map((name) => `kms:${name}`)
  const called = new Set([...registry, ...packer, ...keys, ...Object.entries(CALLS).map(([call, { action = call }]) => action)])
  const idle = Object.values(all).flatMap((policy) => actions(policy).filter((action) => !called.has(action)))
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
    for (const role of ['baker', 'deployer'] as const)
      expect(reach(all[role], 'sqs:SendMessage')).toEqual(['arn:aws:sqs:eu-west-1:210987654321:told'])
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

  test('roles of machine images are there when a machine is baked on AWS', () => {
    expect(Object.keys(policies)).toEqual(['person', 'worker', 'builder', 'setup'])
    expect(Object.keys(all).slice(4)).toEqual(['baker', 'prover', 'pruner', 'deployer', 'swapper', 'swappable'])
    expect(policyNotes({ ...target, machine })).toEqual([expect.stringContaining('baker and prover')])
    expect(policyNotes({ ...target, deploy })).toEqual([expect.stringContaining('iam:PassRole')])
  })

  test('who deploys changes the groups of bake.yaml and no image, and launches only what is in a launch template', () => {
    for (const action of [
      ...['StartInstanceRefresh', 'RollbackInstanceRefresh', 'SuspendProcesses', 'ResumeProcesses'],
      ...['UpdateAutoScalingGroup', 'SetInstanceProtection', 'TerminateInstanceInAutoScalingGroup'],
    ])
      expect(reach(all.deployer, `autoscaling:${action}`)).toEqual([
        'arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/shop-web',
      ])
    const launch = all.deployer.Statement.find(({ Action }) => Action.includes('ec2:RunInstances'))
    expect(launch?.Condition).toEqual({
      ArnLike: { 'ec2:LaunchTemplate': 'arn:aws:ec2:us-east-1:123456789012:launch-template/*' },
    })
    expect(reach(all.deployer, 's3:PutObject').map((arn) => arn.replace('arn:aws:s3:::ledger/team-a/', ''))).toEqual([
      'beats/*',
      'deployment-steps/*',
      'deployments/*',
      'notices/*',
      'swaps/*',
    ])
    expect(all.deployer.Statement.find(({ Sid }) => Sid === 'CommandInstances')?.Condition).toEqual({
      StringEquals: { 'ssm:resourceTag/aws:autoscaling:groupName': ['shop-web'] },
    })
    expect(actions(all.deployer).filter((action) => /^(?:ecr|kms|ec2:(?:Dereg|Delete|Modify))/.test(action))).toEqual([])
  })

  test('who swaps sends one document, to instances of stacks that may be swapped, and has no other way in', () => {
    const sends = all.swapper.Statement.filter(({ Action }) => Action.includes('ssm:SendCommand'))
    expect(sends.map(({ Resource, Condition }) => [Resource, Condition])).toEqual([
      [['arn:aws:ssm:us-east-1:123456789012:document/bake-swap'], undefined],
      [['arn:aws:ec2:us-east-1:123456789012:instance/*'], { StringLike: { 'ssm:resourceTag/stack': ['dev-alice'] } }],
      [['arn:aws:ec2:us-east-1:123456789012:instance/i-1'], undefined],
      [
        ['arn:aws:ec2:us-east-1:123456789012:instance/*'],
        { StringLike: { 'ssm:resourceTag/aws:autoscaling:groupName': ['shop-dev'] } },
      ],
    ])
    expect(reach(all.swapper, 'ssm:PutParameter')).toEqual(['arn:aws:ssm:us-east-1:123456789012:parameter/bake/shop/swap/*'])
    expect(
      actions(all.swapper).filter((action) => /StartSession|^ec2:(?!Describe)|^autoscaling:(?!Describe)/.test(action)),
    ).toEqual([])
  })

  test('who bakes may write every document that baking makes', () => {
    const sources = globSync(fileURLToPath(new URL('../../src/ami/**/*.ts', import.meta.url))).map((path) =>
      readFileSync(path, 'utf8'),
    )
    const used = new Set(sources.flatMap((text) => [...text.matchAll(/\bkeys\.(\w+)\(/g)].map(([, name]) => name!)))
    // Builds are the askers' and the workers'.
    const known = ['bake', 'base', 'build', 'log', 'machine', 'parents', 'prune', 'release', 'releaseMachine', 'releaseMachines']
    expect([...used].sort()).toEqual(known)
    const written = [
      keys.bake('b'),
      keys.base('0'),
      keys.log('b', 0),
      keys.machine('i', 0),
      keys.notice('bake_b_baked'),
      keys.parents('w'),
      keys.release('v1'),
      keys.releaseMachine('v1', 'i'),
    ]
    const may = reach(all.baker, 's3:PutObject').map((arn) => arn.replace('arn:aws:s3:::ledger/team-a/', '').replace('*', ''))
    for (const key of written)
      expect(
        may.some((prefix) => key.startsWith(prefix)),
        key,
      ).toBe(true)
  })

  test('where workers bake, who asks may record what is there and make a launch template version of it, and start nothing', () => {
    const bakes = policiesFor({ ...target, machine: { ...machine, bakes: true } })
    expect(reach(bakes.asker!, 's3:PutObject')).toEqual(
      ['bases', 'notices', 'release-machines', 'releases'].map((prefix) => `arn:aws:s3:::ledger/team-a/${prefix}/*`),
    )
    expect(actions(bakes.asker!).filter((action) => /^ec2:(?!Describe)/.test(action))).toEqual([
      'ec2:CreateTags',
      'ec2:CreateLaunchTemplate',
      'ec2:CreateLaunchTemplateVersion',
      'ec2:ModifyLaunchTemplate',
    ])
    expect(all).not.toHaveProperty('asker')
    expect(policyNotes({ ...target, machine: { ...machine, bakes: true } })[0]).toMatch(/a worker that bakes takes worker, baker/)
  })

  test('what changes or deletes takes the project’s tag; only launch templates have none', () => {
    const harmless =
      /:(?:Describe|GetEbs|GetSnapshotBlock|ListChangedBlocks|ListSnapshotBlocks|GetConsoleOutput|GetQueueUrl|SendMessage|PutObject|CopyImage|CreateImage|RunInstances|CreateSecurityGroup)/
    const free = [all.baker, all.prover, all.pruner].flatMap(({ Statement }) =>
      Statement.filter(({ Action, Condition }) => Condition === undefined && !Action.every((action) => harmless.test(action))),
    )
    expect(free.map(({ Sid, Resource }) => [Sid, Resource])).toEqual([
      ['Templates', ['arn:aws:ec2:us-east-1:123456789012:launch-template/*']],
      ['Versions', ['us-east-1', 'eu-west-1'].map((region) => `arn:aws:ec2:${region}:123456789012:launch-template/*`)],
    ])
    for (const role of ['baker', 'prover', 'pruner'] as const)
      for (const { Condition } of all[role].Statement.filter((each) =>
        each.Action.some((one) => /:(?:Delete(?!LaunchTemplateVersions)|Deregister|Terminate)/.test(one)),
      ))
        expect(JSON.stringify(Condition)).toContain('"aws:ResourceTag/bake:project":"shop"')
  })

  test('copies need their regions, the instance only its own', () => {
    expect(reach(all.baker, 'ec2:CopyImage')).toContain('arn:aws:ec2:eu-west-1::image/*')
    expect(reach(all.prover, 'ec2:TerminateInstances')).toEqual(['arn:aws:ec2:us-east-1:123456789012:instance/*'])
  })

  test.for([
    ['alias/shop', ['arn:aws:kms:us-east-1:123456789012:key/*', 'arn:aws:kms:eu-west-1:123456789012:key/*']],
    [
      'arn:aws:kms:us-east-1:123456789012:key/mrk-1',
      ['arn:aws:kms:us-east-1:123456789012:key/mrk-1', 'arn:aws:kms:eu-west-1:123456789012:key/mrk-1'],
    ],
    [undefined, []],
  ] as const)('a key by its alias or its id: %s', ([kmsKey, arns]) => {
    const { kmsKey: _, ...others } = machine
    const { baker } = policiesFor({ ...target, machine: { ...others, ...(kmsKey && { kmsKey }) } })
    expect(reach(baker!, 'kms:CreateGrant')).toEqual(arns)
    const byAlias = baker!.Statement.some(({ Condition }) => Condition?.['ForAnyValue:StringEquals'] !== undefined)
    expect(byAlias).toBe(kmsKey === 'alias/shop')
  })

  test('a fleet with a prefix lists below it, and is still told what isn’t there', () => {
    const [list] = policies.worker.Statement.filter(({ Action }) => Action.includes('s3:ListBucket'))
    expect(list?.Condition).toEqual({ StringLikeIfExists: { 's3:prefix': 'team-a/*' } })
  })

  test('statements are told apart, and none is empty', () => {
    const plain = policiesFor({ ...target, aws: { ...target.aws!, parameters: [], noticeQueues: [] } })
    for (const { Statement } of [...Object.values(plain), ...Object.values(all)]) {
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
