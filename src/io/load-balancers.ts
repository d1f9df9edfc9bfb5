import type { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2'
import { BakeError, messageOf } from '../errors.ts'
import { awsOptions } from './aws-client.ts'
import { ec2Error, ec2ErrorName } from './ec2-errors.ts'

export interface TargetGroup {
  arn: string
  name: string
  /** For how long requests that are under way may go on when a target is deregistered. */
  drainSeconds: number
}

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html */
export interface Target {
  id: string
  port?: number
  /** initial, healthy, unhealthy, unused, draining, unavailable, unhealthy.draining */
  state: string
  /** `Target.NotInUse`, … and a sentence. */
  reason?: string
  description?: string
}

type Sdk = typeof import('@aws-sdk/client-elastic-load-balancing-v2')
interface Connection {
  sdk: Sdk
  client: ElasticLoadBalancingV2Client
}

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html */
const DRAIN = 'deregistration_delay.timeout_seconds'
const DEFAULT_DRAIN_SECONDS = 300
/** Balancers learn of an instance after EC2 has launched it: "could not find instance", "not in a running state". */
const NOT_YET = new Set(['InvalidTarget', 'InvalidTargetException'])
/** No account has it. */
const NOBODY = 'i-00000000000000000'

/** Target groups of application, network and gateway load balancers in one region. Loads the SDK with the first call. Errors: see ec2-errors.ts. */
export class LoadBalancers implements AsyncDisposable {
  readonly #region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.#region = region
  }

  /** Throws ec2_refused when one isn't there. */
  async targetGroups(arns: string[]): Promise<TargetGroup[]> {
    return await Promise.all(
      arns.map(async (arn) => {
        const { Attributes = [] } = await this.#call('DescribeTargetGroupAttributes', arn, ({ sdk, client }) =>
          client.send(new sdk.DescribeTargetGroupAttributesCommand({ TargetGroupArn: arn })),
        )
        const drain = Attributes.find(({ Key }) => Key === DRAIN)?.Value
        return { arn, name: nameOf(arn), drainSeconds: Number(drain ?? DEFAULT_DRAIN_SECONDS) }
      }),
    )
  }

  /** All that are registered, those that drain included. */
  async targets(arn: string): Promise<Target[]> {
    const { TargetHealthDescriptions = [] } = await this.#call('DescribeTargetHealth', arn, ({ sdk, client }) =>
      client.send(new sdk.DescribeTargetHealthCommand({ TargetGroupArn: arn })),
    )
    return TargetHealthDescriptions.map(({ Target, TargetHealth }) => ({
      id: Target?.Id ?? '',
      ...(Target?.Port !== undefined && { port: Target.Port }),
      state: TargetHealth?.State ?? '',
      ...(TargetHealth?.Reason && { reason: TargetHealth.Reason }),
      ...(TargetHealth?.Description && { description: TargetHealth.Description }),
    }))
  }

  /**
   * On the target group's own port, as Auto Scaling does. A text: what AWS says of one that the load balancer doesn't know, yet or any more; the others are registered,
   * though AWS takes all or none.
   */
  async register(arn: string, instances: string[]): Promise<string | undefined> {
    const Targets = instances.map((Id) => ({ Id }))
    const unknown = await this.#unlessUnknown('RegisterTargets', arn, ({ sdk, client }) =>
      client.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: arn, Targets })),
    )
    if (unknown === undefined || instances.length === 1) return unknown
    let said: string | undefined
    for (const id of instances) said = (await this.register(arn, [id])) ?? said
    return said
  }

  /** Those that aren't registered are no error. */
  async deregister(arn: string, targets: Pick<Target, 'id' | 'port'>[]): Promise<void> {
    const Targets = targets.map(({ id, port }) => ({ Id: id, ...(port !== undefined && { Port: port }) }))
    await this.#unlessUnknown('DeregisterTargets', arn, ({ sdk, client }) =>
      client.send(new sdk.DeregisterTargetsCommand({ TargetGroupArn: arn, Targets })),
    )
  }

  /** Changes nothing: throws ec2_denied when the caller may not register or deregister. IAM decides before anybody looks for the instance. */
  async mayChange(arn: string): Promise<void> {
    await this.register(arn, [NOBODY])
    await this.deregister(arn, [{ id: NOBODY }])
  }

  /** AWS's words when it doesn't know an instance. */
  async #unlessUnknown(
    action: string,
    arn: string,
    send: (connection: Connection) => Promise<unknown>,
  ): Promise<string | undefined> {
    try {
      await this.#call(action, arn, send)
      return undefined
    } catch (error) {
      if (NOT_YET.has(ec2ErrorName(error))) return messageOf(error instanceof BakeError ? error.cause : error)
      throw error
    }
  }

  async #call<T>(action: string, arn: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.#region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { action, region: this.#region, subject: nameOf(arn), service: 'elasticloadbalancing' })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

/** `arn:aws:elasticloadbalancing:<region>:<account>:targetgroup/<name>/<id>` */
const nameOf = (arn: string): string => arn.split('/')[1] ?? arn

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([
    import('@aws-sdk/client-elastic-load-balancing-v2'),
    awsOptions({ service: 'Elastic Load Balancing v2', region }),
  ])
  return { sdk, client: new sdk.ElasticLoadBalancingV2Client(options) }
}
