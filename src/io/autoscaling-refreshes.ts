import type { InstanceRefresh } from '@aws-sdk/client-auto-scaling'
import type { AutoScaling } from './autoscaling-client.ts'
import { pages } from './ec2.ts'

/** What a refresh brings a group to, and how. Percentages are of the group's desired capacity. */
export interface RefreshRequest {
  template: { id: string; version: number }
  minHealthy: number
  maxHealthy: number
  /** Instances that are as they should be already stay. */
  skipMatching: boolean
  warmupSeconds?: number
  /** After the last instance was replaced: what goes wrong until then is rolled back. */
  bakeSeconds?: number
  /** Ascending percentages at which it waits. */
  checkpoints: number[]
  checkpointSeconds?: number
  /** CloudWatch alarms: it is rolled back when one goes off. */
  alarms: string[]
}

/** https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html */
export interface Refresh {
  id: string
  /** Pending, InProgress, Successful, Failed, Cancelling, Cancelled, RollbackInProgress, RollbackFailed, RollbackSuccessful, Baking */
  status: string
  reason?: string
  /** ms since the epoch; absent while it is pending. */
  startedAt?: number
  /** 0–100 of the instances; it sinks while a refresh is rolled back. */
  percent: number
  /** Instances that are still to be replaced. */
  left: number
  /** What it brings the group to. */
  template?: { id: string; version: string }
}

/** Auto Scaling asks whether its caller could launch the version: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html */
const LAUNCHES = ['ec2:RunInstances', 'ec2:CreateTags', 'iam:PassRole']

/** Instance refreshes of the groups of one region. Errors: see ec2-errors.ts. */
export class Refreshes {
  readonly #scaling: AutoScaling

  constructor(scaling: AutoScaling) {
    this.#scaling = scaling
  }

  /** Its id. Throws ec2_refused with InstanceRefreshInProgress while another one goes on. */
  async start(group: string, request: RefreshRequest): Promise<string> {
    const { template, alarms, checkpoints } = request
    const { warmupSeconds, bakeSeconds, checkpointSeconds } = request
    const { InstanceRefreshId } = await this.#scaling.call(
      'StartInstanceRefresh',
      group,
      ({ sdk, client }) =>
        client.send(
          new sdk.StartInstanceRefreshCommand({
            AutoScalingGroupName: group,
            Strategy: 'Rolling',
            DesiredConfiguration: {
              LaunchTemplate: { LaunchTemplateId: template.id, Version: String(template.version) },
            },
            Preferences: {
              AutoRollback: true,
              MinHealthyPercentage: request.minHealthy,
              MaxHealthyPercentage: request.maxHealthy,
              SkipMatching: request.skipMatching,
              ...(warmupSeconds !== undefined && { InstanceWarmup: warmupSeconds }),
              ...(bakeSeconds !== undefined && { BakeTime: bakeSeconds }),
              ...(checkpoints.length > 0 && { CheckpointPercentages: checkpoints }),
              ...(checkpoints.length > 0 && checkpointSeconds !== undefined && { CheckpointDelay: checkpointSeconds }),
              ...(alarms.length > 0 && { AlarmSpecification: { Alarms: alarms } }),
            },
          }),
        ),
      LAUNCHES,
    )
    return InstanceRefreshId!
  }

  /** Newest first: those that go on, and of the last six weeks those that ended. */
  async list(group: string): Promise<Refresh[]> {
    const found = await this.#scaling.call('DescribeInstanceRefreshes', group, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeInstanceRefreshesCommand({ AutoScalingGroupName: group, NextToken }))
        return { items: answer.InstanceRefreshes ?? [], next: answer.NextToken }
      }),
    )
    return found.map(refreshOf)
  }

  /** Back to what the group was before. Throws ec2_refused with ActiveInstanceRefreshNotFound or IrreversibleInstanceRefresh. */
  async rollback(group: string): Promise<void> {
    await this.#scaling.call('RollbackInstanceRefresh', group, ({ sdk, client }) =>
      client.send(new sdk.RollbackInstanceRefreshCommand({ AutoScalingGroupName: group })),
    )
  }
}

function refreshOf(refresh: InstanceRefresh): Refresh {
  const { InstanceRefreshId: id = '', Status: status = '', StartTime } = refresh
  const reason = refresh.RollbackDetails?.RollbackReason ?? refresh.StatusReason
  const { LaunchTemplateId = '', Version = '' } = refresh.DesiredConfiguration?.LaunchTemplate ?? {}
  return {
    ...{ id, status },
    ...(reason && { reason }),
    ...(StartTime && { startedAt: StartTime.getTime() }),
    percent: refresh.PercentageComplete ?? 0,
    left: refresh.InstancesToUpdate ?? 0,
    ...(LaunchTemplateId && { template: { id: LaunchTemplateId, version: Version } }),
  }
}
