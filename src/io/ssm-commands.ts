import { pages } from './ec2.ts'
import { ec2ErrorName } from './ec2-errors.ts'
import type { Ssm } from './ssm.ts'

export interface CommandRequest {
  document: string
  /** Of the document: exactly what was looked at runs. Its default version unless told. */
  version?: string
  instances: string[]
  parameters: Record<string, string>
  /** What people and `list-commands` see; 100 characters at most are kept. */
  comment: string
  /** Until an instance has taken it; 30 at least. An agent asks every few seconds. */
  deliverySeconds: number
  /** It may run twice: a lost answer is tried again. Else of an ec2_unreachable nobody knows whether it runs. */
  repeatable: boolean
}

/** How a command goes on one instance: https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
export interface Invocation {
  instance: string
  /** Pending, InProgress, Delayed, Success, Cancelled, TimedOut, Failed, Cancelling, or `Unseen`: Systems Manager doesn't know of it yet. */
  status: string
  /** In more words: `Delivery Timed Out`, `Undeliverable`, … */
  details: string
}
export interface CommandResult extends Invocation {
  /** Exit status; -1 while there is none. */
  code: number
  /** 24,000 characters of each at most. */
  stdout: string
  stderr: string
}

/** What SSM takes in one command: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html */
const MOST_INSTANCES = 50
const MOST_COMMENT = 100
/** Of values of a filter, and of what is listed at once. */
const AT_ONCE = 50
/** How far this machine's clock may be off from AWS's. */
const CLOCK_SLACK_MS = 86_400_000

/** Run Command of one region. Errors: see ec2-errors.ts. */
export class SsmCommands {
  readonly #ssm: Ssm

  constructor(ssm: Ssm) {
    this.#ssm = ssm
  }

  /** Ids of the commands that were sent: one for each 50 instances. */
  async send(request: CommandRequest): Promise<string[]> {
    const ids: string[] = []
    for (const InstanceIds of chunks(request.instances, MOST_INSTANCES)) {
      const { Command } = await this.#ssm.call('SendCommand', request.document, ({ sdk, client, once }) =>
        (request.repeatable ? client : once).send(
          new sdk.SendCommandCommand({
            DocumentName: request.document,
            DocumentVersion: request.version,
            InstanceIds,
            Parameters: Object.fromEntries(Object.entries(request.parameters).map(([name, value]) => [name, [value]])),
            Comment: request.comment.slice(0, MOST_COMMENT),
            TimeoutSeconds: request.deliverySeconds,
            // One that fails stops no other.
            MaxConcurrency: '100%',
            MaxErrors: '100%',
          }),
        ),
      )
      ids.push(Command!.CommandId!)
    }
    return ids
  }

  /** Id of the newest command with this comment that was sent since, ms since the epoch. */
  async find({ document, comment, since }: { document: string; comment: string; since: number }): Promise<string | undefined> {
    const Filters = [
      { key: 'DocumentName' as const, value: document },
      { key: 'InvokedAfter' as const, value: new Date(since - CLOCK_SLACK_MS).toISOString().replace(/\.\d+Z$/, 'Z') },
    ]
    const found = await this.#ssm.call('ListCommands', comment, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.ListCommandsCommand({ Filters, MaxResults: AT_ONCE, NextToken }))
        return { items: answer.Commands ?? [], next: answer.NextToken }
      }),
    )
    return found.find(({ Comment }) => Comment === comment)?.CommandId
  }

  /** Of all instances that it was sent to; of none for a moment after that. */
  async invocations(command: string): Promise<Invocation[]> {
    const found = await this.#ssm.call('ListCommandInvocations', command, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.ListCommandInvocationsCommand({ CommandId: command, NextToken }))
        return { items: answer.CommandInvocations ?? [], next: answer.NextToken }
      }),
    )
    return found.map(({ InstanceId = '', Status = '', StatusDetails = '' }) => ({
      ...{ instance: InstanceId, status: Status, details: StatusDetails },
    }))
  }

  async result(command: string, instance: string): Promise<CommandResult> {
    try {
      const answer = await this.#ssm.call('GetCommandInvocation', command, ({ sdk, client }) =>
        client.send(new sdk.GetCommandInvocationCommand({ CommandId: command, InstanceId: instance })),
      )
      const { Status = '', StatusDetails = '', ResponseCode = -1 } = answer
      const { StandardOutputContent: stdout = '', StandardErrorContent: stderr = '' } = answer
      return { instance, status: Status, details: StatusDetails, code: ResponseCode, stdout, stderr }
    } catch (error) {
      if (ec2ErrorName(error) !== 'InvocationDoesNotExist') throw error
      return { instance, status: 'Unseen', details: '', code: -1, stdout: '', stderr: '' }
    }
  }

  /** Those of the instances whose agent answers. */
  async online(instances: string[]): Promise<Set<string>> {
    const online = new Set<string>()
    for (const Values of chunks(instances, AT_ONCE)) {
      const Filters = [{ Key: 'InstanceIds', Values }]
      const found = await this.#ssm.call('DescribeInstanceInformation', 'instances', ({ sdk, client }) =>
        pages(async (NextToken) => {
          const request = { Filters, MaxResults: AT_ONCE, NextToken }
          const answer = await client.send(new sdk.DescribeInstanceInformationCommand(request))
          return { items: answer.InstanceInformationList ?? [], next: answer.NextToken }
        }),
      )
      for (const { InstanceId = '', PingStatus } of found) if (PingStatus === 'Online') online.add(InstanceId)
    }
    return online
  }
}

function chunks<T>(all: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.slice(n * size, (n + 1) * size))
}
