import type { SSMClient } from '@aws-sdk/client-ssm'
import { awsOptions } from './aws-client.ts'
import { pages } from './ec2.ts'
import { ec2Error, ec2ErrorName } from './ec2-errors.ts'

/** A command for `sh` on instances, as root. */
export interface ShellCommand {
  instances: string[]
  /** 100 characters at most: it is found again by this. */
  comment: string
  line: string
  /** It is ended after this; 172,800 at most. */
  seconds: number
  /** It may run twice: a lost answer is tried again. */
  repeatable?: true
}

/** How a command went on one instance: https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
export interface Invocation {
  /** Pending, InProgress, Delayed, Success, Cancelled, TimedOut, Failed, Cancelling, or `Unseen`: Systems Manager doesn't know of it yet. */
  status: string
  /** In more words: `Delivery Timed Out`, `Undeliverable`, … */
  details: string
  /** Exit status; -1 while there is none. */
  code: number
  stdout: string
  stderr: string
}

type Sdk = typeof import('@aws-sdk/client-ssm')
interface Connection {
  sdk: Sdk
  client: SSMClient
  /** SendCommand has no client token: what is tried again may run twice. */
  once: SSMClient
}

const DOCUMENT = 'AWS-RunShellScript'
/** An agent that isn't there takes no command: it has this long to fetch it. */
const DELIVERY_SECONDS = 600
const AT_ONCE = 50
/** How far this machine's clock may be off from AWS's. */
const CLOCK_SLACK_MS = 86_400_000

/** Commands on the instances of one region by Systems Manager. Loads the SDK with the first call. Errors: see ec2-errors.ts. */
export class InstanceCommands implements AsyncDisposable {
  readonly #region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.#region = region
  }

  /** Those whose agent answers. */
  async online(instances: string[]): Promise<Set<string>> {
    const online = new Set<string>()
    for (let at = 0; at < instances.length; at += AT_ONCE) {
      const Filters = [{ Key: 'InstanceIds', Values: instances.slice(at, at + AT_ONCE) }]
      const found = await this.#call('DescribeInstanceInformation', 'instances', ({ sdk, client }) =>
        pages(async (NextToken) => {
          const answer = await client.send(
            new sdk.DescribeInstanceInformationCommand({ Filters, MaxResults: AT_ONCE, NextToken }),
          )
          return { items: answer.InstanceInformationList ?? [], next: answer.NextToken }
        }),
      )
      for (const { InstanceId = '', PingStatus } of found) if (PingStatus === 'Online') online.add(InstanceId)
    }
    return online
  }

  /** Its id. It is sent once, unless it is `repeatable`: of an ec2_unreachable nobody knows whether it runs. */
  async send({ instances, comment, line, seconds, repeatable }: ShellCommand): Promise<string> {
    const { Command } = await this.#call('SendCommand', instances.join(', '), ({ sdk, client, once }) =>
      (repeatable ? client : once).send(
        new sdk.SendCommandCommand({
          DocumentName: DOCUMENT,
          InstanceIds: instances,
          Comment: comment,
          TimeoutSeconds: DELIVERY_SECONDS,
          Parameters: { commands: [line], executionTimeout: [String(seconds)] },
        }),
      ),
    )
    return Command!.CommandId!
  }

  /** Id of the newest command with this comment that was sent since, ms since the epoch. */
  async find(comment: string, since: number): Promise<string | undefined> {
    const Filters = [
      { key: 'DocumentName' as const, value: DOCUMENT },
      { key: 'InvokedAfter' as const, value: new Date(since - CLOCK_SLACK_MS).toISOString().replace(/\.\d+Z$/, 'Z') },
    ]
    const found = await this.#call('ListCommands', comment, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.ListCommandsCommand({ Filters, MaxResults: AT_ONCE, NextToken }))
        return { items: answer.Commands ?? [], next: answer.NextToken }
      }),
    )
    return found.find(({ Comment }) => Comment === comment)?.CommandId
  }

  async invocation(id: string, instance: string): Promise<Invocation> {
    try {
      const answer = await this.#call('GetCommandInvocation', id, ({ sdk, client }) =>
        client.send(new sdk.GetCommandInvocationCommand({ CommandId: id, InstanceId: instance })),
      )
      return {
        status: answer.Status ?? '',
        details: answer.StatusDetails ?? '',
        code: answer.ResponseCode ?? -1,
        stdout: answer.StandardOutputContent ?? '',
        stderr: answer.StandardErrorContent ?? '',
      }
    } catch (error) {
      if (ec2ErrorName(error) !== 'InvocationDoesNotExist') throw error
      return { status: 'Unseen', details: '', code: -1, stdout: '', stderr: '' }
    }
  }

  async #call<T>(action: string, subject: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.#region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { action, region: this.#region, subject, service: 'ssm' })
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
