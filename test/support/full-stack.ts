import { AutoScalingClient, DescribeAutoScalingGroupsCommand, SuspendProcessesCommand } from '@aws-sdk/client-auto-scaling'
import { startBalancers, type TestBalancers } from './aws-gaps/full-balancers.ts'
import { startCommands, type TestCommands } from './aws-gaps/full-commands.ts'
import { startFullGroups, type TestFullGroups } from './aws-gaps/full-group.ts'
import { Environment } from './environment.ts'
import { MOTO_REGION } from './moto.ts'
import { makeStackWorld, type StackWorld } from './stack.ts'

export interface FullStackWorld extends AsyncDisposable {
  readonly stacks: StackWorld
  readonly groups: TestFullGroups
  readonly balancers: TestBalancers
  readonly commands: TestCommands
  /** As a person does in the console. */
  suspend(name: string, process: string): Promise<void>
  group(name: string): Promise<GroupSnapshot>
}

export interface GroupSnapshot {
  /** Version that the group launches, and those of its instances. */
  version: string | undefined
  instances: (string | undefined)[]
  ids: string[]
  /** min, desired, max */
  sizes: number[]
  suspended: string[]
  /** Instances that are protected from scale-in, and whether new ones will be. */
  protected: string[]
  protectsNew: boolean
}

/** A project with stacks as makeStackWorld's, behind stand-ins for what a full deployment touches. */
export async function makeFullStackWorld(): Promise<FullStackWorld> {
  const stacks = await makeStackWorld()
  const balancers = await startBalancers()
  const commands = await startCommands(stacks.commands.endpoint)
  const groups = await startFullGroups(stacks.ec2.moto.endpoint, stacks.refreshes.endpoint, balancers)
  const environment = new Environment()
  environment.set('AWS_ENDPOINT_URL_AUTO_SCALING', groups.endpoint)
  environment.set('AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2', balancers.endpoint)
  environment.set('AWS_ENDPOINT_URL_SSM', commands.endpoint)
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  const client = new AutoScalingClient({ region: MOTO_REGION, endpoint: groups.endpoint, credentials })
  return {
    ...{ stacks, groups, balancers, commands },
    suspend: async (AutoScalingGroupName, process) =>
      void (await client.send(new SuspendProcessesCommand({ AutoScalingGroupName, ScalingProcesses: [process] }))),
    async group(name) {
      const { AutoScalingGroups } = await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] }))
      const group = AutoScalingGroups![0]!
      const { Instances = [], SuspendedProcesses = [] } = group
      return {
        version: group.LaunchTemplate?.Version,
        instances: Instances.map((instance) => instance.LaunchTemplate?.Version),
        ids: Instances.map(({ InstanceId = '' }) => InstanceId).sort(),
        sizes: [group.MinSize!, group.DesiredCapacity!, group.MaxSize!],
        suspended: SuspendedProcesses.map(({ ProcessName = '' }) => ProcessName).sort(),
        protected: Instances.flatMap(({ InstanceId, ProtectedFromScaleIn }) => (ProtectedFromScaleIn ? [InstanceId!] : [])),
        protectsNew: group.NewInstancesProtectedFromScaleIn === true,
      }
    },
    async [Symbol.asyncDispose]() {
      client.destroy()
      environment[Symbol.dispose]()
      await groups[Symbol.asyncDispose]()
      await stacks[Symbol.asyncDispose]()
      for (const standIn of [balancers, commands]) await standIn[Symbol.asyncDispose]()
    },
  }
}
