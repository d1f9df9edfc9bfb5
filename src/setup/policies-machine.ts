import { type AskerRole, look, type MachineRole } from './policies-look.ts'
import { allow, type Policy, type Statement } from './policy.ts'
import type { SetupMachine } from './types.ts'

/** Where ARNs of EC2 begin: `arn:aws:ec2`. Images and snapshots have no account in theirs. */
export interface Place {
  partition: string
  account: string
  /** ARNs of the ledger's documents below each prefix. */
  ledger(prefixes: string[]): string[]
  /** ARNs of the queues that `notify:` names. */
  noticeQueues: string[]
}

/** What `bake ami` and `bake prune` write into the ledger. Claims of images are beside those of machines. */
const BAKED = [
  'bakes/',
  'bases/',
  'beats/',
  'claims/',
  'logs/',
  'machines/',
  'notices/',
  'parents/',
  'release-machines/',
  'releases/',
]
const PRUNED = ['claims/', 'prunes/']
const FOUND = ['bases/', 'notices/', 'release-machines/', 'releases/']

const LAUNCHED = ['instance', 'key-pair', 'network-interface', 'security-group', 'subnet', 'volume']
const REGISTER = [
  'ec2:DeregisterImage',
  'ec2:DescribeImageAttribute',
  'ec2:DisableImageDeregistrationProtection',
  'ec2:EnableImageDeprecation',
  'ec2:EnableImageDeregistrationProtection',
  'ec2:ModifyImageAttribute',
]
const TEMPLATES = ['ec2:CreateLaunchTemplate', 'ec2:CreateLaunchTemplateVersion', 'ec2:ModifyLaunchTemplate']
/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AMIEncryption.html */
const ENCRYPT = [
  'kms:Decrypt',
  'kms:DescribeKey',
  'kms:GenerateDataKey',
  'kms:GenerateDataKeyWithoutPlaintext',
  'kms:ReEncryptFrom',
  'kms:ReEncryptTo',
]

/** Least privilege for machine images: what was made for this project carries its tag, and nothing else can be changed or deleted. */
export function machinePolicies(
  machine: SetupMachine,
  place: Place,
): Record<MachineRole, Policy> & Partial<Record<AskerRole, Policy>> {
  const document = (...statements: Statement[][]): Policy => ({ Version: '2012-10-17', Statement: statements.flat() })
  return {
    baker: document(
      builder(machine, place),
      direct(machine, place),
      registration(machine, place),
      templates(machine, place),
      key(machine, place),
      tell(place),
    ),
    prover: document(prover(machine, place)),
    pruner: document(pruner(machine, place)),
    ...(machine.bakes && { asker: document(asker(machine, place), templates(machine, place), tell(place)) }),
  }
}

/** Who bakes or deploys tells of it. */
export const tell = ({ noticeQueues }: Place): Statement[] =>
  noticeQueues.length === 0 ? [] : [allow('Tell', ['sqs:GetQueueUrl', 'sqs:SendMessage'], noticeQueues)]

const owned = ({ partition, account }: Place, region: string, kinds: string[]): string[] =>
  kinds.map((kind) => `arn:${partition}:ec2:${region}:${account}:${kind}/*`)
const unowned = ({ partition }: Place, regions: string[], kinds = ['image', 'snapshot']): string[] =>
  regions.flatMap((region) => kinds.map((kind) => `arn:${partition}:ec2:${region}::${kind}/*`))

const ofProject = ({ project }: SetupMachine) => ({ StringEquals: { 'aws:ResourceTag/bake:project': project } })

/** An instance with a security group of its own, which is bake's, and an image of it, which is Packer's amazon-ebs's. */
function builder(machine: SetupMachine, place: Place): Statement[] {
  const { region, copies, project } = machine
  const asked = { StringEquals: { 'aws:RequestTag/bake:project': project } }
  const everywhere = unowned(place, [region, ...copies])
  return [
    look('baker'),
    allow('Record', ['s3:PutObject'], place.ledger(BAKED)),
    allow('Launch', ['ec2:RunInstances'], [...owned(place, region, LAUNCHED), ...unowned(place, [region])]),
    allow('CreateGroup', ['ec2:CreateSecurityGroup'], owned(place, region, ['security-group', 'vpc'])),
    allow(
      'Group',
      ['ec2:AuthorizeSecurityGroupIngress', 'ec2:DeleteSecurityGroup'],
      owned(place, region, ['security-group']),
      ofProject(machine),
    ),
    allow(
      'Builder',
      ['ec2:ModifyInstanceAttribute', 'ec2:StopInstances', 'ec2:TerminateInstances'],
      owned(place, region, ['instance']),
      ofProject(machine),
    ),
    allow('Image', ['ec2:CreateImage'], [...owned(place, region, ['instance']), ...unowned(place, [region])]),
    allow('Copy', ['ec2:CopyImage'], everywhere),
    allow('TagNew', ['ec2:CreateTags'], [...owned(place, region, [...LAUNCHED, 'launch-template']), ...everywhere], asked),
    allow('TagOwn', ['ec2:CreateTags'], everywhere, ofProject(machine)),
  ]
}

/** Blocks of snapshots without an instance: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html. Bases are nobody's project's. */
function direct(machine: SetupMachine, place: Place): Statement[] {
  const regions = [machine.region, ...machine.copies]
  const [images, snapshots] = [unowned(place, regions, ['image']), unowned(place, regions, ['snapshot'])]
  const asked = { StringEquals: { 'aws:RequestTag/bake:project': machine.project } }
  return [
    allow('ReadBlocks', ['ebs:GetSnapshotBlock', 'ebs:ListChangedBlocks', 'ebs:ListSnapshotBlocks'], snapshots),
    allow('StartSnapshot', ['ebs:StartSnapshot'], snapshots, asked),
    allow('PutBlocks', ['ebs:CompleteSnapshot', 'ebs:PutSnapshotBlock'], snapshots, ofProject(machine)),
    allow('RegisterImage', ['ec2:RegisterImage'], images, asked),
    allow('RegisterSnapshot', ['ec2:RegisterImage'], snapshots, ofProject(machine)),
  ]
}

const registration = (machine: SetupMachine, place: Place): Statement[] => {
  const { region, copies } = machine
  return [
    allow('Register', REGISTER, unowned(place, [region, ...copies], ['image']), ofProject(machine)),
    allow('DeleteSnapshots', ['ec2:DeleteSnapshot'], unowned(place, [region, ...copies], ['snapshot']), ofProject(machine)),
  ]
}

/** ARNs of launch templates have ids, which nobody knows before. */
const templates = ({ region, launchTemplate }: SetupMachine, place: Place): Statement[] =>
  launchTemplate === undefined ? [] : [allow('Templates', TEMPLATES, owned(place, region, ['launch-template']))]

const asker = (machine: SetupMachine, place: Place): Statement[] => [
  look('asker'),
  allow('Record', ['s3:PutObject'], place.ledger(FOUND)),
  allow('TagNew', ['ec2:CreateTags'], owned(place, machine.region, ['launch-template']), {
    StringEquals: { 'aws:RequestTag/bake:project': machine.project },
  }),
]

function key({ kmsKey, region, copies }: SetupMachine, { partition, account }: Place): Statement[] {
  if (kmsKey === undefined) return []
  const alias = /(?:^|:)(alias\/.+)$/.exec(kmsKey)?.[1]
  const id = kmsKey.split('/').at(-1)
  const keys = [region, ...copies].map((each) => `arn:${partition}:kms:${each}:${account}:key/${alias === undefined ? id : '*'}`)
  const named: Statement['Condition'] =
    alias === undefined ? {} : { 'ForAnyValue:StringEquals': { 'kms:ResourceAliases': alias } }
  return [
    allow('Encrypt', ENCRYPT, keys, alias === undefined ? undefined : named),
    allow('GrantToEc2', ['kms:CreateGrant'], keys, { ...named, Bool: { 'kms:GrantIsForAWSResource': 'true' } }),
  ]
}

function prover(machine: SetupMachine, place: Place): Statement[] {
  const { region, copies, project } = machine
  const made = ['instance', 'network-interface', 'volume']
  const snapshots = unowned(place, [region], ['snapshot'])
  const launched = { StringEquals: { 'ec2:CreateAction': 'RunInstances', 'aws:RequestTag/bake:project': project } }
  return [
    look('prover'),
    allow('VpcAttribute', ['ec2:DescribeVpcAttribute'], owned(place, region, ['vpc'])),
    allow('Launch', ['ec2:RunInstances'], [...owned(place, region, LAUNCHED), ...unowned(place, [region])]),
    allow('TagNew', ['ec2:CreateTags'], owned(place, region, made), launched),
    allow('Proof', ['ec2:GetConsoleOutput', 'ec2:TerminateInstances'], owned(place, region, ['instance']), ofProject(machine)),
    allow('RequireImdsV2', ['ec2:ModifyImageAttribute'], unowned(place, [region], ['image']), ofProject(machine)),
    // Stand-ins (services.*.proof.with) come as a volume: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html
    allow('StartStandIns', ['ebs:StartSnapshot'], snapshots, { StringEquals: { 'aws:RequestTag/bake:project': project } }),
    allow('PutStandIns', ['ebs:CompleteSnapshot', 'ebs:PutSnapshotBlock', 'ec2:DeleteSnapshot'], snapshots, ofProject(machine)),
    allow('TagProven', ['ec2:CreateTags'], unowned(place, [region, ...copies]), ofProject(machine)),
  ]
}

function pruner(machine: SetupMachine, place: Place): Statement[] {
  const { region, copies } = machine
  const regions = [region, ...copies]
  const things = regions.flatMap((each) => owned(place, each, ['instance', 'key-pair', 'security-group', 'volume']))
  const remove = ['ec2:DeleteKeyPair', 'ec2:DeleteSecurityGroup', 'ec2:DeleteVolume', 'ec2:TerminateInstances']
  const images = ['ec2:DeregisterImage', 'ec2:DescribeImageAttribute']
  return [
    look('pruner'),
    allow('Record', ['s3:PutObject'], place.ledger(PRUNED)),
    allow('Remove', remove, things, ofProject(machine)),
    allow('Images', images, unowned(place, regions, ['image']), ofProject(machine)),
    allow(
      'Versions',
      ['ec2:DeleteLaunchTemplateVersions'],
      regions.flatMap((each) => owned(place, each, ['launch-template'])),
    ),
    // Images of runs that were killed before Packer tagged them.
    allow('TagFound', ['ec2:CreateTags'], unowned(place, regions), {
      StringEquals: { 'aws:RequestTag/bake:project': machine.project },
    }),
    allow('Snapshots', ['ec2:DeleteSnapshot'], unowned(place, regions, ['snapshot']), ofProject(machine)),
  ]
}

/** What `bake setup` itself needs for the proof network. */
export const networkSetup = ({ region }: SetupMachine, place: Place): Statement[] => [
  allow('LookAtNetwork', NETWORK_LOOK, ['*']),
  allow('Network', NETWORK, owned(place, region, ['route-table', 'security-group', 'subnet', 'vpc'])),
  allow('TagNetwork', ['ec2:CreateTags'], owned(place, region, ['security-group', 'subnet', 'vpc']), {
    StringEquals: { 'ec2:CreateAction': ['CreateSecurityGroup', 'CreateSubnet', 'CreateVpc'] },
  }),
]

const NETWORK_LOOK = [
  'ec2:DescribeAvailabilityZones',
  'ec2:DescribeRouteTables',
  'ec2:DescribeSecurityGroups',
  'ec2:DescribeSubnets',
  'ec2:DescribeVpcs',
]
const NETWORK = [
  'ec2:CreateSecurityGroup',
  'ec2:CreateSubnet',
  'ec2:CreateVpc',
  'ec2:DeleteRoute',
  'ec2:DescribeVpcAttribute',
  'ec2:ModifyVpcAttribute',
  'ec2:RevokeSecurityGroupEgress',
  'ec2:RevokeSecurityGroupIngress',
]
