import { type DeployRole, deployPolicies } from './policies-deploy.ts'
import type { AskerRole, MachineRole } from './policies-look.ts'
import { machinePolicies, networkSetup } from './policies-machine.ts'
import { type SwapRole, swapPolicies, swapSetup } from './policies-swap.ts'
import { allow, type Policy, type Statement } from './policy.ts'
import type { SetupAws, SetupMachine, SetupRepositories, SetupTarget } from './types.ts'

export type { Policy, Statement } from './policy.ts'

/** `person` asks for builds, `worker` makes them, `builder` is an instance that only pulls images, `setup` is whoever runs `bake setup`. */
export type Role = 'person' | 'worker' | 'builder' | 'setup'

/** Those of machine images are there when bake.yaml has a machine that is baked on AWS, `asker` when workers bake it, `deployer` when it has a stack that is an auto-scaling group, `swapper` and `swappable` when one on AWS may be swapped. */
export type Policies = Record<Role, Policy> & Partial<Record<MachineRole | AskerRole | DeployRole | SwapRole, Policy>>

/** Stands for the account's number where nothing tells it. */
const UNKNOWN_ACCOUNT = '<account>'

const PULL = ['ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer']
const PUSH = [
  'ecr:BatchCheckLayerAvailability',
  'ecr:CompleteLayerUpload',
  'ecr:InitiateLayerUpload',
  'ecr:PutImage',
  'ecr:UploadLayerPart',
]
/** What an asker writes into the ledger; everything else is the workers'. */
const ASKED = ['askers/', 'asks/', 'builds/', 'cancels/', 'commits/']

/** Least privilege for each role: exactly the calls that bake makes, on exactly what bake.yaml names. */
export function policiesFor(target: SetupTarget): Policies {
  const { aws, ecr, machine, deploy, swap } = target
  const names = new Names(target)
  const document = (...statements: (Statement | Statement[] | undefined)[]): Policy => ({
    Version: '2012-10-17',
    Statement: statements.flat().filter((each) => each !== undefined && each.Resource.length > 0) as Statement[],
  })
  const images = ecr ? names.repositories(ecr, ecr.images) : []
  const noticeQueues = aws?.noticeQueues ?? []
  const place = { ...names.place, noticeQueues, ledger: (prefixes: string[]) => (aws ? names.objects(aws, prefixes) : []) }
  const all = ecr ? names.repositories(ecr, [...ecr.images, ecr.cache]) : []
  return {
    person: document(aws && person(aws, names), ecr && [TOKEN, allow('Images', PULL, images)]),
    worker: document(aws && worker(aws, names), ecr && [TOKEN, allow('Images', [...PULL, ...PUSH], all)]),
    builder: document(ecr && [TOKEN, allow('Images', PULL, images)]),
    setup: document(
      aws && setupOf(aws, names),
      ecr && setupRepositories(all),
      machine && networkSetup(machine, place),
      swap && swapSetup(swap, place),
    ),
    ...(machine && machinePolicies(machine, place)),
    ...(deploy && deployPolicies(deploy, place)),
    ...(swap && swapPolicies(swap, place)),
  }
}

/** What a person should know about the policies, in a sentence each. */
export function policyNotes({ ecr, aws, machine, deploy, swap }: SetupTarget): string[] {
  const roles = [
    ...(machine ? [machineNote(machine)] : []),
    ...(deploy
      ? [
          "bake deploy takes person and deployer, and iam:PassRole for the role of the launch template's instance profile, if it has one",
        ]
      : []),
    ...(swap
      ? ['bake swap takes person and swapper; the instances take AmazonSSMManagedInstanceCore, swappable and builder']
      : []),
  ]
  if (ecr !== undefined || aws === undefined) return roles
  return [...roles, `nothing in bake.yaml tells the account's number: replace ${UNKNOWN_ACCOUNT} by it`]
}

const machineNote = ({ bakes }: SetupMachine): string =>
  `${bakes ? 'a worker that bakes takes worker, baker and prover together, bake ami person and asker (with --here person, baker and prover)' : 'bake ami takes person, baker and prover together'}; bake prune takes person and pruner`

/** Can't be narrowed: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html */
const TOKEN = allow('RegistryToken', ['ecr:GetAuthorizationToken'], ['*'])

function person(aws: SetupAws, names: Names): Statement[] {
  const { queues, deadQueue } = aws
  return [
    allow('Ask', ['sqs:GetQueueUrl', 'sqs:SendMessage'], names.queues(aws, queues)),
    allow('Status', ['sqs:GetQueueAttributes', 'sqs:GetQueueUrl'], names.queues(aws, [...queues, deadQueue])),
    allow('ReadLedger', ['s3:GetObject'], names.objects(aws, [''])),
    names.list(aws),
    allow('WriteLedger', ['s3:PutObject'], names.objects(aws, ASKED)),
  ]
}

function worker(aws: SetupAws, names: Names): Statement[] {
  const { queues, deadQueue, parameters, noticeQueues } = aws
  const take = [
    'sqs:ChangeMessageVisibility',
    'sqs:DeleteMessage',
    'sqs:GetQueueAttributes',
    'sqs:GetQueueUrl',
    'sqs:ReceiveMessage',
  ]
  const groups = `arn:${names.partition}:autoscaling:${aws.region}:${names.account}:autoScalingGroup:*:autoScalingGroupName/*`
  return [
    allow('Take', take, names.queues(aws, queues)),
    allow('Bury', ['sqs:GetQueueAttributes', 'sqs:GetQueueUrl', 'sqs:SendMessage'], names.queues(aws, [deadQueue])),
    allow('Ledger', ['s3:GetObject', 's3:PutObject'], names.objects(aws, [''])),
    names.list(aws),
    allow('Secrets', ['ssm:GetParameter'], names.parameters(aws, parameters)),
    allow('Tell', ['sqs:GetQueueUrl', 'sqs:SendMessage'], noticeQueues),
    // Which group an instance belongs to has no permissions by resource; what it does to its group is limited to groups that carry bake's tag.
    allow('Group', ['autoscaling:DescribeAutoScalingInstances', 'autoscaling:DescribeLifecycleHooks'], ['*']),
    allow(
      'Protect',
      ['autoscaling:CompleteLifecycleAction', 'autoscaling:RecordLifecycleActionHeartbeat', 'autoscaling:SetInstanceProtection'],
      [groups],
      { Null: { 'aws:ResourceTag/bake:fleet': 'false' } },
    ),
  ]
}

function setupOf(aws: SetupAws, names: Names): Statement[] {
  const { queues, deadQueue, bucket } = aws
  const queue = ['sqs:CreateQueue', 'sqs:GetQueueAttributes', 'sqs:GetQueueUrl', 'sqs:SetQueueAttributes']
  // s3:ListBucket is what HeadBucket needs.
  const settings = ['BucketPolicy', 'BucketPublicAccessBlock', 'EncryptionConfiguration', 'LifecycleConfiguration']
  const actions = ['s3:CreateBucket', 's3:ListBucket', ...settings.flatMap((each) => [`s3:Get${each}`, `s3:Put${each}`])]
  return [
    allow('Queues', queue, names.queues(aws, [...queues, deadQueue])),
    allow('Bucket', actions, [`arn:${names.partition}:s3:::${bucket}`]),
  ]
}

const setupRepositories = (repositories: string[]): Statement =>
  allow(
    'Repositories',
    [
      'ecr:CreateRepository',
      'ecr:DescribeRepositories',
      'ecr:GetLifecyclePolicy',
      'ecr:ListTagsForResource',
      'ecr:PutImageScanningConfiguration',
      'ecr:PutImageTagMutability',
      'ecr:PutLifecyclePolicy',
      'ecr:TagResource',
    ],
    repositories,
  )

/** ARNs: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html */
class Names {
  readonly partition: string
  readonly account: string

  constructor({ partition, ecr }: SetupTarget) {
    this.partition = partition
    this.account = ecr?.account ?? UNKNOWN_ACCOUNT
  }

  get place(): { partition: string; account: string } {
    return { partition: this.partition, account: this.account }
  }

  queues({ region }: SetupAws, queues: string[]): string[] {
    return queues.map((name) => `arn:${this.partition}:sqs:${region}:${this.account}:${name}`)
  }

  objects({ bucket, ledgerPrefix }: SetupAws, prefixes: string[]): string[] {
    return prefixes.map((prefix) => `arn:${this.partition}:s3:::${bucket}/${ledgerPrefix}${prefix}*`)
  }

  /**
   * "If exists", because S3 answers 404 to a GET of what isn't there only for those who may list, and that request has no prefix: with a plain condition, every
   * look at a key that isn't there would be 403 (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, "Permissions").
   */
  list({ bucket, ledgerPrefix }: SetupAws): Statement {
    const condition = ledgerPrefix === '' ? undefined : { StringLikeIfExists: { 's3:prefix': `${ledgerPrefix}*` } }
    return allow('ListLedger', ['s3:ListBucket'], [`arn:${this.partition}:s3:::${bucket}`], condition)
  }

  parameters({ region }: SetupAws, parameters: string[]): string[] {
    return parameters.map((name) => `arn:${this.partition}:ssm:${region}:${this.account}:parameter${name}`)
  }

  repositories({ region, account }: SetupRepositories, repositories: string[]): string[] {
    return repositories.map((name) => `arn:${this.partition}:ecr:${region}:${account}:repository/${name}`)
  }
}
