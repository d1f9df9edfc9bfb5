import type { AutoScalingClient, AutoScalingGroup } from '@aws-sdk/client-auto-scaling'
import { awsOptions } from './aws-client.ts'
import { pages } from './ec2.ts'
import { ec2Error } from './ec2-errors.ts'

type Sdk = typeof import('@aws-sdk/client-auto-scaling')
interface Connection {
  sdk: Sdk
  client: AutoScalingClient
}

/** The most that one page may have. */
const PAGE = 100

/** Which AMIs the auto-scaling groups of a region name by themselves, not through a launch template. Errors: ec2_* (exit 4). */
export class GroupImages implements AsyncDisposable {
  readonly #region: string
  #connection: Promise<Connection> | undefined

  /** Loads the SDK with the first call. */
  constructor(region: string) {
    this.#region = region
  }

  /** AMI id → `launch configuration web-3`, `auto-scaling group web`. */
  async named(): Promise<Map<string, string>> {
    const [configurations, groups] = await Promise.all([this.#configurations(), this.#groups()])
    return new Map([...configurations, ...groups])
  }

  #configurations(): Promise<[string, string][]> {
    return this.#call('DescribeLaunchConfigurations', ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeLaunchConfigurationsCommand({ MaxRecords: PAGE, NextToken }))
        const items = (answer.LaunchConfigurations ?? []).map(({ ImageId, LaunchConfigurationName }): [string, string] => [
          ImageId ?? '',
          `launch configuration ${LaunchConfigurationName}`,
        ])
        return { items, next: answer.NextToken }
      }),
    )
  }

  #groups(): Promise<[string, string][]> {
    return this.#call('DescribeAutoScalingGroups', ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeAutoScalingGroupsCommand({ MaxRecords: PAGE, NextToken }))
        return { items: (answer.AutoScalingGroups ?? []).flatMap(overridesOf), next: answer.NextToken }
      }),
    )
  }

  async #call<T>(action: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.#region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { action, region: this.#region, subject: 'all', service: 'autoscaling' })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

const overridesOf = ({ AutoScalingGroupName, MixedInstancesPolicy }: AutoScalingGroup): [string, string][] =>
  (MixedInstancesPolicy?.LaunchTemplate?.Overrides ?? []).flatMap(({ ImageId }): [string, string][] =>
    ImageId === undefined ? [] : [[ImageId, `auto-scaling group ${AutoScalingGroupName}`]],
  )

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([
    import('@aws-sdk/client-auto-scaling'),
    awsOptions({ service: 'Auto Scaling', region }),
  ])
  return { sdk, client: new sdk.AutoScalingClient(options) }
}
