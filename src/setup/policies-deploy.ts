import { type Place, tell } from './policies-machine.ts'
import { allow, type Policy, type Statement } from './policy.ts'
import type { SetupDeploy } from './types.ts'

/** `deployer` replaces the instances of a project's groups, and touches no image. */
export type DeployRole = 'deployer'

/** Beats: of whoever takes the steps of a full deployment. */
const DEPLOYED = ['beats/', 'deployment-steps/', 'deployments/', 'notices/', 'swaps/']
/** Have no permissions by resource: https://docs.aws.amazon.com/service-authorization/latest/reference/ */
const LOOK = [
  'autoscaling:DescribeAutoScalingGroups',
  'autoscaling:DescribeInstanceRefreshes',
  'autoscaling:DescribeScalingActivities',
  'ec2:DescribeImages',
  'ec2:DescribeInstanceStatus',
  'ec2:DescribeInstanceTypes',
  'ec2:DescribeLaunchTemplateVersions',
  'ec2:DescribeLaunchTemplates',
  'elasticloadbalancing:DescribeTargetGroupAttributes',
  'elasticloadbalancing:DescribeTargetHealth',
  'ssm:DescribeInstanceInformation',
  'ssm:GetCommandInvocation',
  'ssm:ListCommands',
]
const CHANGE = [
  'autoscaling:ResumeProcesses',
  'autoscaling:RollbackInstanceRefresh',
  'autoscaling:SetInstanceProtection',
  'autoscaling:StartInstanceRefresh',
  'autoscaling:SuspendProcesses',
  'autoscaling:TerminateInstanceInAutoScalingGroup',
  'autoscaling:UpdateAutoScalingGroup',
]
const BALANCE = ['elasticloadbalancing:DeregisterTargets', 'elasticloadbalancing:RegisterTargets']

export const deployPolicies = ({ region, project, groups }: SetupDeploy, place: Place): Record<DeployRole, Policy> => {
  const { partition, account } = place
  const arn = (group: string) =>
    `arn:${partition}:autoscaling:${region}:${account}:autoScalingGroup:*:autoScalingGroupName/${group}`
  const Statement: Statement[] = [
    allow('Look', LOOK, ['*']),
    allow('Record', ['s3:PutObject'], place.ledger(DEPLOYED)),
    allow('Deploy', CHANGE, groups.map(arn)),
    // bake.yaml doesn't tell which the groups have.
    allow('Balance', BALANCE, [`arn:${partition}:elasticloadbalancing:${region}:${account}:targetgroup/*`]),
    allow('Command', ['ssm:SendCommand'], [`arn:${partition}:ssm:${region}::document/AWS-RunShellScript`]),
    allow('CommandInstances', ['ssm:SendCommand'], [`arn:${partition}:ec2:${region}:${account}:instance/*`], {
      StringEquals: { 'ssm:resourceTag/aws:autoscaling:groupName': groups },
    }),
    // A deployment takes the place of what was swapped.
    allow('CloseSwaps', ['ssm:DeleteParameter'], [`arn:${partition}:ssm:${region}:${account}:parameter/bake/${project}/swap/*`]),
    // Auto Scaling asks whether its caller could launch the version: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
    allow('LaunchVersions', ['ec2:RunInstances'], ['*'], {
      ArnLike: { 'ec2:LaunchTemplate': `arn:${partition}:ec2:${region}:${account}:launch-template/*` },
    }),
    allow('TagLaunched', ['ec2:CreateTags'], [`arn:${partition}:ec2:${region}:${account}:*/*`], {
      StringEquals: { 'ec2:CreateAction': 'RunInstances' },
    }),
    ...tell(place),
  ]
  return { deployer: { Version: '2012-10-17', Statement } }
}
