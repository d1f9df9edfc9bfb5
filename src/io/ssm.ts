import type { SSMClient } from '@aws-sdk/client-ssm'
import { awsOptions } from './aws-client.ts'
import { ec2Error, ec2ErrorName } from './ec2-errors.ts'

type Sdk = typeof import('@aws-sdk/client-ssm')
interface Connection {
  sdk: Sdk
  client: SSMClient
  /** Tries once: what has no client token may be done twice otherwise. */
  once: SSMClient
}

/** Systems Manager in one region: what its adapters (ssm-*.ts) share. Loads the SDK with the first call. Errors: see ec2-errors.ts. */
export class Ssm implements AsyncDisposable {
  readonly region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.region = region
  }

  /** `action`: of the API, which is the IAM action too; `subject`: the name it is about. */
  async call<T>(action: string, subject: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { action, region: this.region, subject, service: 'ssm' })
    }
  }

  /** As `call`; undefined when it answers with one of `names`, such as ParameterNotFound. */
  async optional<T>(names: ReadonlySet<string>, action: string, subject: string, send: (connection: Connection) => Promise<T>) {
    try {
      return await this.call(action, subject, send)
    } catch (error) {
      if (names.has(ec2ErrorName(error))) return undefined
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    for (const client of connection ? [connection.client, connection.once] : []) client.destroy()
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-ssm'), awsOptions({ service: 'SSM', region })])
  return { sdk, client: new sdk.SSMClient(options), once: new sdk.SSMClient({ ...options, maxAttempts: 1 }) }
}
