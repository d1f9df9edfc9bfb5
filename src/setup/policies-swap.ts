import { SWAP_DOCUMENT } from '../swap-document.ts'
import type { Place } from './policies-machine.ts'
import { allow, type Policy, type Statement } from './policy.ts'
import type { SetupSwap } from './types.ts'

/** `swapper` replaces images on instances of stacks that may be swapped, and has no shell there; `swappable` is what such an instance needs itself. */
export type SwapRole = 'swapper' | 'swappable'

/** Have no permissions by resource: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html */
const LOOK = [
  'autoscaling:DescribeAutoScalingGroups',
  'ec2:DescribeInstances',
  // What bake stacks shows of a group.
  'ec2:DescribeLaunchTemplateVersions',
  'ssm:DescribeInstanceInformation',
  'ssm:GetCommandInvocation',
  'ssm:ListCommandInvocations',
]

export function swapPolicies({ region, project, groups, tags }: SetupSwap, place: Place): Record<SwapRole, Policy> {
  const { partition, account } = place
  const ssm = (what: string) => `arn:${partition}:ssm:${region}:${account}:${what}`
  const parameters = [ssm(`parameter/bake/${project}/swap/*`)]
  const chosen: Record<string, string[]>[] = [
    ...tags,
    ...(Object.keys(groups).length === 0 ? [] : [{ 'tag:aws:autoscaling:groupName': Object.values(groups) }]),
  ]
  const swapper: Statement[] = [
    allow('Look', LOOK, ['*']),
    allow('Record', ['s3:PutObject'], place.ledger(['beats/', 'swaps/'])),
    // One document and nothing else: AWS-RunShellScript would be a shell.
    allow('Document', ['ssm:GetDocument', 'ssm:SendCommand'], [ssm(`document/${SWAP_DOCUMENT}`)]),
    ...chosen.map((filters, n) => {
      const { InstanceIds: ids = ['*'], ...byTag } = filters
      const tagged = Object.entries(byTag).map(([name, values]) => [`ssm:resourceTag/${name.slice('tag:'.length)}`, values])
      return allow(
        `Instances${n}`,
        ['ssm:SendCommand'],
        ids.map((id) => `arn:${partition}:ec2:${region}:${account}:instance/${id}`),
        tagged.length === 0 ? undefined : { StringLike: Object.fromEntries(tagged) },
      )
    }),
    allow('Parameter', ['ssm:DeleteParameter', 'ssm:PutParameter'], parameters),
  ]
  const document = (Statement: Statement[]): Policy => ({ Version: '2012-10-17', Statement })
  return { swapper: document(swapper), swappable: document([allow('Record', ['ssm:GetParameter'], parameters)]) }
}

/** What `bake setup` needs for them. */
export const swapSetup = ({ region, groups }: SetupSwap, { partition, account }: Place): Statement[] => [
  allow(
    'SwapDocument',
    ['ssm:CreateDocument', 'ssm:GetDocument', 'ssm:UpdateDocument', 'ssm:UpdateDocumentDefaultVersion'],
    [`arn:${partition}:ssm:${region}:${account}:document/${SWAP_DOCUMENT}`],
  ),
  allow('Groups', ['autoscaling:DescribeAutoScalingGroups'], ['*']),
  allow(
    'TagGroups',
    ['autoscaling:CreateOrUpdateTags'],
    Object.values(groups).map(
      (group) => `arn:${partition}:autoscaling:${region}:${account}:autoScalingGroup:*:autoScalingGroupName/${group}`,
    ),
  ),
]
