import {
  AutoScalingClient,
  CreateAutoScalingGroupCommand,
  CreateLaunchConfigurationCommand,
  DescribeAutoScalingGroupsCommand,
  PutLifecycleHookCommand,
} from '@aws-sdk/client-auto-scaling'
import { MOTO_REGION, type Moto, uniqueName } from './moto.ts'

export interface TestGroup {
  readonly name: string
  readonly instances: string[]
  /** Whether an instance is protected from scale-in, as moto has it. */
  protected(instance: string): Promise<boolean>
}

/** The shortest heartbeat that Auto Scaling takes. */
export const HOOK = { name: 'drain', heartbeatSeconds: 30 }

/** An auto-scaling group in moto, with a termination hook unless told. */
export async function makeGroup(moto: Moto, { size = 1, hook = true } = {}): Promise<TestGroup> {
  const client = new AutoScalingClient({
    region: MOTO_REGION,
    endpoint: moto.endpoint,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const name = uniqueName('workers')
  await client.send(
    new CreateLaunchConfigurationCommand({ LaunchConfigurationName: name, ImageId: 'ami-12c6146b', InstanceType: 't3.small' }),
  )
  const ids = { AutoScalingGroupName: name }
  await client.send(
    new CreateAutoScalingGroupCommand({
      ...ids,
      LaunchConfigurationName: name,
      MinSize: 0,
      MaxSize: size,
      DesiredCapacity: size,
      AvailabilityZones: [`${MOTO_REGION}a`],
    }),
  )
  if (hook)
    await client.send(
      new PutLifecycleHookCommand({
        ...ids,
        LifecycleHookName: HOOK.name,
        LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING',
        HeartbeatTimeout: HOOK.heartbeatSeconds,
      }),
    )
  const describe = async () => {
    const { AutoScalingGroups } = await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] }))
    return AutoScalingGroups?.[0]?.Instances ?? []
  }
  return {
    name,
    instances: (await describe()).map(({ InstanceId }) => InstanceId!),
    protected: async (instance) =>
      (await describe()).find(({ InstanceId }) => InstanceId === instance)?.ProtectedFromScaleIn === true,
  }
}
