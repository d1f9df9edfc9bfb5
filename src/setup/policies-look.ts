import { allow, type Statement } from './policy.ts'

/** `baker` makes AMIs and launch template versions, `prover` boots them without a network, `pruner` deletes what nothing needs. */
export type MachineRole = 'baker' | 'prover' | 'pruner'
/** Whoever asks workers for machine images: a release whose image is there is recorded by them. */
export type AskerRole = 'asker'

/** https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html: what has no permissions by resource. */
const LOOK = {
  baker: [
    'ec2:DescribeImages',
    'ec2:DescribeInstanceStatus',
    'ec2:DescribeInstanceTypes',
    'ec2:DescribeInstances',
    'ec2:DescribeLaunchTemplateVersions',
    'ec2:DescribeLaunchTemplates',
    'ec2:DescribeRegions',
    'ec2:DescribeSecurityGroups',
    'ec2:DescribeSnapshots',
    'ec2:DescribeSubnets',
    'ec2:DescribeVolumes',
    'ec2:DescribeVpcs',
    'ec2:GetEbsEncryptionByDefault',
  ],
  asker: ['ec2:DescribeImages', 'ec2:DescribeLaunchTemplateVersions', 'ec2:DescribeLaunchTemplates'],
  prover: [
    'ec2:DescribeImages',
    'ec2:DescribeInstanceTypes',
    'ec2:DescribeInstances',
    'ec2:DescribeLaunchTemplateVersions',
    'ec2:DescribeLaunchTemplates',
    'ec2:DescribeRouteTables',
    'ec2:DescribeSecurityGroups',
    'ec2:DescribeSnapshots',
    'ec2:DescribeSubnets',
    'ec2:DescribeVpcs',
  ],
  pruner: [
    'autoscaling:DescribeAutoScalingGroups',
    'autoscaling:DescribeLaunchConfigurations',
    'ec2:DescribeImages',
    'ec2:DescribeInstances',
    'ec2:DescribeKeyPairs',
    'ec2:DescribeLaunchTemplateVersions',
    'ec2:DescribeLaunchTemplates',
    'ec2:DescribeSecurityGroups',
    'ec2:DescribeSnapshots',
    'ec2:DescribeVolumes',
  ],
} as const

/** What a role may look at. */
export const look = (role: MachineRole | AskerRole): Statement => allow('Look', [...LOOK[role]], ['*'])
