import { pages } from './ec2.ts'
import type { Ssm } from './ssm.ts'

export interface CommandRequest {
  document: string
  /** Of the document: exactly what was looked at runs. */
  version: string
  instances: string[]
  parameters: Record<string, string>
  /** What people and `list-commands` see. */
  comment: string
}

/** One instance's part of a command. */
export interface Invocation {
  instance: string
  /** Pending, InProgress, Delayed, Success, Cancelled, TimedOut, Failed, Cancelling */
  status: string
  /** More of it: `Undeliverable`, `DeliveryTimedOut`, … */
  detail: string
}

export interface CommandOutput {
  stdout: string
  stderr: string
  /** -1 when it didn't end by itself. */
  code: number
}

/** What SSM takes in one command: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html */
const MOST_INSTANCES = 50
const MOST_COMMENT = 100
/** Until an instance has taken it: an agent asks every few seconds. SSM's least is 30. */
const DELIVERY_SECONDS = 60
/** Most values of a filter of DescribeInstanceInformation. */
const MOST_FILTERED = 50
/** The plugin has not ended on that instance yet. */
const NOT_YET = new Set(['InvocationDoesNotExist'])

/** Run Command of one region. Errors: see ec2-errors.ts. */
export class SsmCommands {
  readonly #ssm: Ssm

  constructor(ssm: Ssm) {
    this.#ssm = ssm
  }

  /** Ids of the commands that were sent: one for each 50 instances. The same call twice sends twice. */
  async send({ document, version, instances, parameters, comment }: CommandRequest): Promise<string[]> {
    const ids: string[] = []
    for (const InstanceIds of chunks(instances, MOST_INSTANCES)) {
      const { Command } = await this.#ssm.call('SendCommand', document, ({ sdk, client }) =>
        client.send(
          new sdk.SendCommandCommand({
            DocumentName: document,
            DocumentVersion: version,
            InstanceIds,
            Parameters: Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, [value]])),
            Comment: comment.slice(0, MOST_COMMENT),
            TimeoutSeconds: DELIVERY_SECONDS,
          }),
        ),
      )
      ids.push(Command!.CommandId!)
    }
    return ids
  }

  async invocations(command: string): Promise<Invocation[]> {
    const found = await this.#ssm.call('ListCommandInvocations', command, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.ListCommandInvocationsCommand({ CommandId: command, NextToken }))
        return { items: answer.CommandInvocations ?? [], next: answer.NextToken }
      }),
    )
    return found.map(({ InstanceId = '', Status = '', StatusDetails = '' }) => ({
      ...{ instance: InstanceId, status: Status, detail: StatusDetails },
    }))
  }

  /** What it wrote on an instance, 24,000 characters of each at most. */
  async output(command: string, instance: string): Promise<CommandOutput> {
    const found = await this.#ssm.optional(NOT_YET, 'GetCommandInvocation', command, ({ sdk, client }) =>
      client.send(new sdk.GetCommandInvocationCommand({ CommandId: command, InstanceId: instance })),
    )
    const { StandardOutputContent: stdout = '', StandardErrorContent: stderr = '', ResponseCode: code = -1 } = found ?? {}
    return { stdout, stderr, code }
  }

  /** Those of the instances whose agent answers. */
  async online(instances: string[]): Promise<Set<string>> {
    const found: string[] = []
    for (const Values of chunks(instances, MOST_FILTERED))
      found.push(
        ...(await this.#ssm.call('DescribeInstanceInformation', Values.join(' '), ({ sdk, client }) =>
          pages(async (NextToken) => {
            const Filters = [{ Key: 'InstanceIds', Values }]
            const answer = await client.send(new sdk.DescribeInstanceInformationCommand({ Filters, NextToken }))
            const online = (answer.InstanceInformationList ?? []).filter(({ PingStatus }) => PingStatus === 'Online')
            return { items: online.map(({ InstanceId = '' }) => InstanceId), next: answer.NextToken }
          }),
        )),
      )
    return new Set(found)
  }
}

function chunks<T>(all: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.slice(n * size, (n + 1) * size))
}
