import type { AutoScalingGroup, LaunchTemplateSpecification } from '@aws-sdk/client-auto-scaling'
import type { Process } from '../scaling-processes.ts'
import type { AutoScaling } from './autoscaling-client.ts'

/** A launch template's version as a group or an instance names it: a number, `$Latest` or `$Default`. */
export interface NamedTemplate {
  id: string
  name: string
  version: string
}

export interface GroupInstance {
  id: string
  /** `InService`, `Pending:Wait`, `Terminating`, … */
  lifecycle: string
  healthy: boolean
  /** From scale-in. */
  protected: boolean
  type?: string
  template?: NamedTemplate
}

/** An auto-scaling group, as far as deploying to it goes. */
export interface Group {
  name: string
  min: number
  desired: number
  max: number
  /** What it launches from; absent: a launch configuration, or several instance types (`mixed`). */
  template?: NamedTemplate
  mixed: boolean
  instances: GroupInstance[]
  /** Processes that are suspended. */
  suspended: string[]
  /** Whether instances that it launches are protected from scale-in. */
  protectsNew: boolean
  /** ARNs of the target groups that its instances are registered with. */
  targetGroups: string[]
  /** What else sends them traffic: classic load balancers, VPC Lattice. */
  otherBalancers: string[]
  warmPool: boolean
}

/** The auto-scaling groups of one region. Errors: see ec2-errors.ts. */
export class Groups {
  readonly #scaling: AutoScaling

  constructor(scaling: AutoScaling) {
    this.#scaling = scaling
  }

  get region(): string {
    return this.#scaling.region
  }

  /** Undefined when there is none of that name. */
  async get(name: string): Promise<Group | undefined> {
    const { AutoScalingGroups = [] } = await this.#scaling.call('DescribeAutoScalingGroups', name, ({ sdk, client }) =>
      client.send(new sdk.DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] })),
    )
    return AutoScalingGroups[0] && groupOf(AutoScalingGroups[0])
  }

  async suspend(name: string, processes: Process[]): Promise<void> {
    await this.#scaling.call('SuspendProcesses', name, ({ sdk, client }) =>
      client.send(new sdk.SuspendProcessesCommand({ AutoScalingGroupName: name, ScalingProcesses: processes })),
    )
  }

  async resume(name: string, processes: Process[]): Promise<void> {
    await this.#scaling.call('ResumeProcesses', name, ({ sdk, client }) =>
      client.send(new sdk.ResumeProcessesCommand({ AutoScalingGroupName: name, ScalingProcesses: processes })),
    )
  }
}

function groupOf(group: AutoScalingGroup): Group {
  const { AutoScalingGroupName: name = '', MinSize: min = 0, DesiredCapacity: desired = 0, MaxSize: max = 0 } = group
  const template = templateOf(group.LaunchTemplate)
  const sources = (group.TrafficSources ?? []).map(({ Identifier = '' }) => Identifier)
  const isTargetGroup = (source: string) => source.includes(':targetgroup/') && !source.includes(':vpc-lattice:')
  return {
    ...{ name, min, desired, max },
    protectsNew: group.NewInstancesProtectedFromScaleIn === true,
    // A target group stands in both lists.
    targetGroups: [...new Set([...(group.TargetGroupARNs ?? []), ...sources.filter(isTargetGroup)])],
    otherBalancers: [...new Set([...(group.LoadBalancerNames ?? []), ...sources.filter((source) => !isTargetGroup(source))])],
    warmPool: group.WarmPoolConfiguration !== undefined,
    ...(template && { template }),
    mixed: group.MixedInstancesPolicy !== undefined,
    suspended: (group.SuspendedProcesses ?? []).map(({ ProcessName = '' }) => ProcessName).sort(),
    instances: (group.Instances ?? []).map(
      ({ InstanceId = '', LifecycleState = '', HealthStatus, ProtectedFromScaleIn, InstanceType, LaunchTemplate }) => {
        const launched = templateOf(LaunchTemplate)
        return {
          id: InstanceId,
          lifecycle: LifecycleState,
          healthy: HealthStatus?.toLowerCase() === 'healthy',
          protected: ProtectedFromScaleIn === true,
          ...(InstanceType && { type: InstanceType }),
          ...(launched && { template: launched }),
        }
      },
    ),
  }
}

/** A group that names none follows the default version. */
const templateOf = (named: LaunchTemplateSpecification | undefined): NamedTemplate | undefined =>
  named && { id: named.LaunchTemplateId ?? '', name: named.LaunchTemplateName ?? '', version: named.Version ?? '$Default' }
