import type { AutoScalingClient } from '@aws-sdk/client-auto-scaling'
import { unavailable } from '../errors.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'

/** What lets an instance finish before its group terminates it: https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html */
export interface LifecycleHook {
  name: string
  /** The instance stays this long after each heartbeat … */
  heartbeatSeconds: number
  /** … and never longer than this. */
  globalSeconds: number
}

/** The auto-scaling group of this instance, as far as the instance itself acts on it. Errors: autoscaling_* (exit 4). */
export interface ScalingGroup extends Disposable {
  readonly name: string
  /** Sets or removes this instance's scale-in protection. */
  protect(on: boolean): Promise<void>
  /** The hook called `name`, or the first for termination when no name is given; undefined when the group has none. */
  hook(name?: string): Promise<LifecycleHook | undefined>
  /** Gives the instance another `heartbeatSeconds`. */
  beat(hook: LifecycleHook): Promise<void>
  /** The instance has nothing more to do. */
  complete(hook: LifecycleHook): Promise<void>
}

type Sdk = typeof import('@aws-sdk/client-auto-scaling')

const TERMINATING = 'autoscaling:EC2_INSTANCE_TERMINATING'
const DEFAULT_HEARTBEAT_SECONDS = 3_600
/** 48 hours or 100 heartbeats, whichever is less. */
const globalLimit = (heartbeatSeconds: number): number => Math.min(48 * 3_600, 100 * heartbeatSeconds)

/** Asks which group has `instance`; undefined when none has. Loads the SDK. */
export async function openScalingGroup(instance: string, region: string): Promise<ScalingGroup | undefined> {
  const sdk = await import('@aws-sdk/client-auto-scaling')
  const client = new sdk.AutoScalingClient(await awsOptions({ service: 'Auto Scaling', region }))
  try {
    const { AutoScalingInstances = [] } = await call('DescribeAutoScalingInstances', instance, () =>
      client.send(new sdk.DescribeAutoScalingInstancesCommand({ InstanceIds: [instance] })),
    )
    const name = AutoScalingInstances[0]?.AutoScalingGroupName
    if (name !== undefined) return new Group(sdk, client, name, instance)
  } catch (error) {
    client.destroy()
    throw error
  }
  client.destroy()
  return undefined
}

class Group implements ScalingGroup {
  readonly #sdk: Sdk
  readonly #client: AutoScalingClient
  readonly #instance: string
  readonly name: string

  constructor(sdk: Sdk, client: AutoScalingClient, name: string, instance: string) {
    this.#sdk = sdk
    this.#client = client
    this.#instance = instance
    this.name = name
  }

  async protect(on: boolean): Promise<void> {
    const ids = { AutoScalingGroupName: this.name, InstanceIds: [this.#instance] }
    await call('SetInstanceProtection', this.name, () =>
      this.#client.send(new this.#sdk.SetInstanceProtectionCommand({ ...ids, ProtectedFromScaleIn: on })),
    )
  }

  async hook(name?: string): Promise<LifecycleHook | undefined> {
    const names = name === undefined ? {} : { LifecycleHookNames: [name] }
    const { LifecycleHooks = [] } = await call('DescribeLifecycleHooks', this.name, () =>
      this.#client.send(new this.#sdk.DescribeLifecycleHooksCommand({ AutoScalingGroupName: this.name, ...names })),
    )
    const found = LifecycleHooks.find(
      ({ LifecycleHookName, LifecycleTransition }) =>
        LifecycleTransition === TERMINATING && (name === undefined || LifecycleHookName === name),
    )
    if (found?.LifecycleHookName === undefined) return undefined
    const heartbeatSeconds = found.HeartbeatTimeout ?? DEFAULT_HEARTBEAT_SECONDS
    return {
      name: found.LifecycleHookName,
      heartbeatSeconds,
      globalSeconds: found.GlobalTimeout ?? globalLimit(heartbeatSeconds),
    }
  }

  async beat(hook: LifecycleHook): Promise<void> {
    await call('RecordLifecycleActionHeartbeat', this.name, () =>
      this.#client.send(new this.#sdk.RecordLifecycleActionHeartbeatCommand(this.#action(hook))),
    )
  }

  async complete(hook: LifecycleHook): Promise<void> {
    await call('CompleteLifecycleAction', this.name, () =>
      this.#client.send(
        new this.#sdk.CompleteLifecycleActionCommand({ ...this.#action(hook), LifecycleActionResult: 'CONTINUE' }),
      ),
    )
  }

  [Symbol.dispose](): void {
    this.#client.destroy()
  }

  #action(hook: LifecycleHook) {
    return { AutoScalingGroupName: this.name, LifecycleHookName: hook.name, InstanceId: this.#instance }
  }
}

/** Auto Scaling names its errors like the other services; a ValidationError says in words what it is about. */
async function call<T>(action: string, subject: string, send: () => Promise<T>): Promise<T> {
  try {
    return await send()
  } catch (error) {
    const why = awsFailure(error) ?? 'refused'
    const name = error instanceof Error ? awsErrorName(error) : ''
    throw unavailable(
      `autoscaling_${why}`,
      `Auto Scaling ${why === 'unreachable' ? 'did not answer' : `answered ${name} to`} ${action}: ${error instanceof Error ? error.message : String(error)}`,
      {
        next:
          why === 'denied'
            ? `allow autoscaling:${action} to the worker's role; bake setup --policies prints what it needs`
            : 'the worker goes on without it',
        ids: { action, subject },
        cause: error,
      },
    )
  }
}
