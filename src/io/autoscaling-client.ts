import type { AutoScalingClient } from '@aws-sdk/client-auto-scaling'
import { awsOptions } from './aws-client.ts'
import { ec2Error } from './ec2-errors.ts'

type Sdk = typeof import('@aws-sdk/client-auto-scaling')
interface Connection {
  sdk: Sdk
  client: AutoScalingClient
}

/** Auto Scaling in one region: what its adapters (autoscaling-*.ts) share. Loads the SDK with the first call. Errors: see ec2-errors.ts. */
export class AutoScaling implements AsyncDisposable {
  readonly region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.region = region
  }

  /** `action`: of the API, which is the IAM action too; `subject`: the name it is about; `also`: other permissions that it needs. */
  async call<T>(action: string, subject: string, send: (connection: Connection) => Promise<T>, also: string[] = []): Promise<T> {
    try {
      this.#connection ??= connect(this.region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { action, region: this.region, subject, service: 'autoscaling', also })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([
    import('@aws-sdk/client-auto-scaling'),
    awsOptions({ service: 'Auto Scaling', region }),
  ])
  return { sdk, client: new sdk.AutoScalingClient(options) }
}
