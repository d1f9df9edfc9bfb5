import type { SQSClient } from '@aws-sdk/client-sqs'
import { unavailable } from '../errors.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName } from './aws-errors.ts'
import type { Found, Resource, ResourceStore } from './aws-resource.ts'
import { sqsError } from './queue-sqs-errors.ts'

type Sdk = typeof import('@aws-sdk/client-sqs')

/** SQS's names of the settings in setup/desired.ts: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html */
const NUMBERS = {
  visibilitySeconds: 'VisibilityTimeout',
  longPollSeconds: 'ReceiveMessageWaitTimeSeconds',
  retentionSeconds: 'MessageRetentionPeriod',
} as const

/** Of the JSON protocol, and of the query protocol before it. */
const EXISTS = new Set(['QueueNameExists', 'QueueAlreadyExists'])

interface Redrive {
  to: string
  afterReceives: number
}

/** Queues of one region as `bake setup` sees and makes them. Errors: queue_denied, queue_throttled, queue_unreachable, queue_deleted (exit 4). */
export class AwsQueues implements ResourceStore {
  readonly #region: string
  #connection: Promise<{ sdk: Sdk; client: SQSClient }> | undefined

  /** Loads the SDK with the first call. */
  constructor(region: string) {
    this.#region = region
  }

  async look({ name }: Resource): Promise<Found | undefined> {
    const url = await this.#url(name)
    if (url === undefined) return undefined
    const { Attributes = {} } = await this.#call(name, ({ sdk, client }) =>
      client.send(new sdk.GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ['All'] })),
    )
    const numbers = Object.entries(NUMBERS).map(([setting, attribute]) => [setting, Number(Attributes[attribute])])
    const redrive = redriveOf(Attributes.RedrivePolicy)
    return {
      settings: {
        ...Object.fromEntries(numbers),
        encrypted: Attributes.SqsManagedSseEnabled === 'true' || Boolean(Attributes.KmsMasterKeyId),
        ...(redrive && { redrive }),
      },
    }
  }

  async create(wanted: Resource): Promise<void> {
    const Attributes = await this.#attributes(wanted, Object.keys(wanted.settings))
    try {
      await this.#call(wanted.name, ({ sdk, client }) =>
        client.send(new sdk.CreateQueueCommand({ QueueName: wanted.name, Attributes })),
      )
    } catch (error) {
      // Made by somebody else since, with other settings.
      if (!(error instanceof Error) || !EXISTS.has(awsErrorName(error))) throw error
      await this.change(wanted, Object.keys(wanted.settings))
    }
  }

  async change(wanted: Resource, settings: string[]): Promise<void> {
    const QueueUrl = await this.#url(wanted.name)
    const Attributes = await this.#attributes(wanted, settings)
    await this.#call(wanted.name, ({ sdk, client }) => client.send(new sdk.SetQueueAttributesCommand({ QueueUrl, Attributes })))
  }

  async #attributes(wanted: Resource, settings: string[]): Promise<Record<string, string>> {
    const all = await Promise.all(
      settings.map(async (setting): Promise<[string, string]> => {
        const value = wanted.settings[setting]
        if (setting === 'encrypted') return ['SqsManagedSseEnabled', 'true']
        if (setting !== 'redrive') return [NUMBERS[setting as keyof typeof NUMBERS], String(value)]
        const { to, afterReceives } = value as Redrive
        const policy = { deadLetterTargetArn: await this.#arn(to), maxReceiveCount: afterReceives }
        return ['RedrivePolicy', JSON.stringify(policy)]
      }),
    )
    return Object.fromEntries(all)
  }

  async #arn(name: string): Promise<string> {
    const QueueUrl = await this.#url(name)
    const { Attributes = {} } = await this.#call(name, ({ sdk, client }) =>
      client.send(new sdk.GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['QueueArn'] })),
    )
    return Attributes.QueueArn ?? ''
  }

  async #url(name: string): Promise<string | undefined> {
    try {
      const { QueueUrl } = await this.#call(name, ({ sdk, client }) =>
        client.send(new sdk.GetQueueUrlCommand({ QueueName: name })),
      )
      return QueueUrl
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'queue_missing') return undefined
      throw error
    }
  }

  async #call<T>(queue: string, send: (connection: { sdk: Sdk; client: SQSClient }) => Promise<T>): Promise<T> {
    this.#connection ??= connect(this.#region)
    try {
      return await send(await this.#connection)
    } catch (error) {
      if (error instanceof Error && awsErrorName(error) === 'QueueDeletedRecently')
        throw unavailable('queue_deleted', `SQS makes no new queue ${queue} within a minute of deleting one`, {
          next: 'bake setup again in a minute; what is done by then stays done',
          ids: { queue },
          cause: error,
        })
      throw sqsError(error, { queue, where: this.#region })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

async function connect(region: string): Promise<{ sdk: Sdk; client: SQSClient }> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-sqs'), awsOptions({ service: 'SQS', region })])
  return { sdk, client: new sdk.SQSClient({ ...options, useQueueUrlAsEndpoint: false }) }
}

function redriveOf(policy: string | undefined): Redrive | undefined {
  if (!policy) return undefined
  const { deadLetterTargetArn = '', maxReceiveCount } = JSON.parse(policy) as Record<string, string | number>
  return { to: String(deadLetterTargetArn).split(':').at(-1) ?? '', afterReceives: Number(maxReceiveCount) }
}
