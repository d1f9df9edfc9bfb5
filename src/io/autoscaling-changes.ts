import type { AutoScaling } from './autoscaling-client.ts'

/** What a group is to have; what is absent stays. */
export interface GroupChange {
  /** What new instances are launched from. */
  template?: { id: string; version: number }
  min?: number
  desired?: number
  max?: number
  /** Whether instances that it launches are protected from scale-in. */
  protectsNew?: boolean
}

/** The most instances that one SetInstanceProtection takes. */
const PROTECTED_AT_ONCE = 50
/** Auto Scaling asks whether its caller could launch the version: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html */
const LAUNCHES = ['ec2:RunInstances', 'ec2:CreateTags', 'iam:PassRole']

/** What changes the groups of one region themselves. Errors: see ec2-errors.ts. */
export class GroupChanges {
  readonly #scaling: AutoScaling

  constructor(scaling: AutoScaling) {
    this.#scaling = scaling
  }

  /** All of it or nothing. */
  async update(group: string, { template, min, desired, max, protectsNew }: GroupChange): Promise<void> {
    await this.#scaling.call(
      'UpdateAutoScalingGroup',
      group,
      ({ sdk, client }) =>
        client.send(
          new sdk.UpdateAutoScalingGroupCommand({
            AutoScalingGroupName: group,
            ...(template && { LaunchTemplate: { LaunchTemplateId: template.id, Version: String(template.version) } }),
            ...(min !== undefined && { MinSize: min }),
            ...(desired !== undefined && { DesiredCapacity: desired }),
            ...(max !== undefined && { MaxSize: max }),
            ...(protectsNew !== undefined && { NewInstancesProtectedFromScaleIn: protectsNew }),
          }),
        ),
      template ? LAUNCHES : [],
    )
  }

  /** Sets or removes the scale-in protection of instances of the group. */
  async protect(group: string, instances: string[], on: boolean): Promise<void> {
    for (let at = 0; at < instances.length; at += PROTECTED_AT_ONCE)
      await this.#scaling.call('SetInstanceProtection', group, ({ sdk, client }) =>
        client.send(
          new sdk.SetInstanceProtectionCommand({
            AutoScalingGroupName: group,
            InstanceIds: instances.slice(at, at + PROTECTED_AT_ONCE),
            ProtectedFromScaleIn: on,
          }),
        ),
      )
  }

  /** Ends an instance, protected or not, and makes the desired capacity one smaller. */
  async terminate(instance: string): Promise<void> {
    await this.#scaling.call('TerminateInstanceInAutoScalingGroup', instance, ({ sdk, client }) =>
      client.send(
        new sdk.TerminateInstanceInAutoScalingGroupCommand({ InstanceId: instance, ShouldDecrementDesiredCapacity: true }),
      ),
    )
  }

  /** Why the newest thing that Auto Scaling tried failed; undefined when it didn't: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html */
  async trouble(group: string): Promise<string | undefined> {
    const { Activities = [] } = await this.#scaling.call('DescribeScalingActivities', group, ({ sdk, client }) =>
      client.send(new sdk.DescribeScalingActivitiesCommand({ AutoScalingGroupName: group, MaxRecords: 1 })),
    )
    const [newest] = Activities
    return newest?.StatusCode === 'Failed' ? newest.StatusMessage || newest.Description || 'it failed' : undefined
  }
}
