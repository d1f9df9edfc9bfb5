import type { SQSClient, Message as SqsMessage } from '@aws-sdk/client-sqs'
import { unavailable } from '../errors.ts'
import { type AwsOptions, awsOptions } from './aws-client.ts'
import type { Depth, Lane, Message, Queue } from './queue.ts'
import { MAX_BODY_BYTES, messageBody } from './queue-body.ts'
import { isLost, sqsError } from './queue-sqs-errors.ts'

/** Enough for any reason, within the kilobyte kept for it. */
const MAX_REASON_CHARACTERS = 200
/** Beyond the time of a long poll, so that a dead connection ends too. */
const POLL_GRACE_MS = 10_000

const SHARDED: readonly Lane[] = ['high', 'normal']
/** What the lanes' queues are called. No longer than `-dead`, for the sake of SQS's 80 characters. */
const SUFFIX: Record<Lane, string> = { normal: '', high: '-high', machine: '-ami' }

export interface SqsOptions {
  /** `http://127.0.0.1:PORT` of the host's own; without it AWS, or where AWS_ENDPOINT_URL* points. */
  endpoint?: string | undefined
  region: string
  /** The name of the normal lane's queue 0; the others are `<prefix>-high`, `<prefix>-<n>`, `<prefix>-high-<n>`, `<prefix>-ami` and `<prefix>-dead`. */
  prefix: string
  /** Queues per lane; 1 unless told. */
  shards?: number
  /** Whether the bakes' queue is there, and counts. */
  bakes?: boolean
}

type Sdk = typeof import('@aws-sdk/client-sqs')

/** Shard 0 has the names that a fleet without shards has, so that sharding one later strands no message. */
export const queueName = (prefix: string, lane: Lane, shard: number): string =>
  `${prefix}${SUFFIX[lane]}${shard === 0 || lane === 'machine' ? '' : `-${shard}`}`

/** The job queue on SQS, or on anything that speaks its JSON protocol. Errors: queue_unreachable, queue_missing, queue_throttled, queue_denied (world's). */
export class SqsQueue implements Queue {
  readonly #sdk: Sdk
  readonly #client: SQSClient
  readonly #prefix: string
  readonly #where: string
  /**
   * SQS goes on with a long poll whose caller hung up and hides the next message for nobody (https://github.com/aws/aws-sdk-js/issues/2350): there one that is
   * given up is left to end by itself, and what it brings is handed back. The host's own queue notices.
   */
  readonly #noticesHangUp: boolean
  readonly #urls = new Map<string, Promise<string>>()
  readonly #polls = new Set<Promise<unknown>>()
  readonly #bakes: boolean
  readonly shards: number

  private constructor(sdk: Sdk, options: AwsOptions, { prefix, endpoint, shards = 1, bakes = false }: SqsOptions) {
    this.shards = shards
    this.#bakes = bakes
    this.#noticesHangUp = endpoint !== undefined
    this.#sdk = sdk
    this.#prefix = prefix
    this.#where = options.endpoint ?? options.region
    // The queues are in the client's own region; and an emulator's queue URLs may keep an old port.
    this.#client = new sdk.SQSClient({ ...options, useQueueUrlAsEndpoint: false })
  }

  /** Loads the SDK and looks up the normal lane in the background: some 100 ms in all, so open it early. Fails only with the first call. */
  static async open(options: SqsOptions): Promise<SqsQueue> {
    const { region, endpoint } = options
    const [sdk, client] = await Promise.all([import('@aws-sdk/client-sqs'), awsOptions({ service: 'SQS', region, endpoint })])
    const queue = new SqsQueue(sdk, client, options)
    queue.#url(queueName(options.prefix, 'normal', 0)).catch(() => {})
    return queue
  }

  /** Takes JSON only. Throws `message_too_large` (refused) over MAX_BODY_BYTES. */
  async send(lane: Lane, json: string, shard = 0): Promise<void> {
    const body = messageBody(json)
    await this.#call(queueName(this.#prefix, lane, shard), (QueueUrl) =>
      this.#client.send(new this.#sdk.SendMessageCommand({ QueueUrl, MessageBody: body })),
    )
  }

  async receive(
    lane: Lane,
    options: { max: number; waitSeconds: number; visibilitySeconds: number; shard?: number; signal?: AbortSignal },
  ): Promise<Message[]> {
    const { signal } = options
    if (signal?.aborted) return []
    const poll = this.#poll(lane, options)
    if (signal === undefined) return poll
    return new Promise((resolve, reject) => {
      const giveUp = () => resolve([])
      signal.addEventListener('abort', giveUp, { once: true })
      const ended = poll
        .then(async (messages) => {
          if (!signal.aborted) return resolve(messages)
          // Nobody will work on these, so others get them now, not when they turn visible again.
          await Promise.allSettled(messages.map((message) => this.renew(message, 0)))
        })
        .catch((error) => !signal.aborted && reject(error))
        .finally(() => {
          signal.removeEventListener('abort', giveUp)
          this.#polls.delete(ended)
        })
      this.#polls.add(ended)
    })
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#polls)
  }

  async #poll(
    lane: Lane,
    options: { max: number; waitSeconds: number; visibilitySeconds: number; shard?: number; signal?: AbortSignal },
  ): Promise<Message[]> {
    const { signal, shard = 0 } = options
    const { Messages = [] } = await this.#call(queueName(this.#prefix, lane, shard), (QueueUrl) =>
      this.#client.send(
        new this.#sdk.ReceiveMessageCommand({
          QueueUrl,
          MaxNumberOfMessages: options.max,
          WaitTimeSeconds: options.waitSeconds,
          VisibilityTimeout: options.visibilitySeconds,
          MessageSystemAttributeNames: ['ApproximateReceiveCount', 'SentTimestamp'],
        }),
        {
          requestTimeout: options.waitSeconds * 1000 + POLL_GRACE_MS,
          ...(signal && this.#noticesHangUp && { abortSignal: signal }),
        },
      ),
    )
    return Messages.map((message) => fromSqs(lane, shard, message))
  }

  async renew(message: Message, seconds: number): Promise<void> {
    try {
      await this.#call(queueName(this.#prefix, message.lane, message.shard), (QueueUrl) =>
        this.#client.send(
          new this.#sdk.ChangeMessageVisibilityCommand({
            QueueUrl,
            ReceiptHandle: message.receipt,
            VisibilityTimeout: seconds,
          }),
        ),
      )
    } catch (error) {
      if (!isLost(error)) throw error
      throw unavailable('message_lost', `message ${message.id} is not ours any more: its visibility ran out`, {
        ids: { message: message.id },
        cause: error,
      })
    }
  }

  async remove(message: Message): Promise<void> {
    try {
      await this.#call(queueName(this.#prefix, message.lane, message.shard), (QueueUrl) =>
        this.#client.send(new this.#sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: message.receipt })),
      )
    } catch (error) {
      if (!isLost(error)) throw error
    }
  }

  async bury(message: Message, reason: string): Promise<void> {
    const text = reason.replace(/[^\x20-\x7e]+/g, ' ').slice(0, MAX_REASON_CHARACTERS) || 'unknown'
    // A message that others made as large as the limit goes without a reason rather than not at all.
    const fits = Buffer.byteLength(message.body) <= MAX_BODY_BYTES
    await this.#call(`${this.#prefix}-dead`, (QueueUrl) =>
      this.#client.send(
        new this.#sdk.SendMessageCommand({
          QueueUrl,
          MessageBody: message.body,
          ...(fits && { MessageAttributes: { reason: { DataType: 'String', StringValue: text } } }),
        }),
      ),
    )
    await this.remove(message)
  }

  async depth(): Promise<{ visible: number; inFlight: number; delayed: number; dead: number }> {
    const [queues, dead] = await Promise.all([this.depths(), this.#counts(`${this.#prefix}-dead`)])
    const sum = (key: 'visible' | 'inFlight' | 'delayed') => queues.reduce((total, counts) => total + counts[key], 0)
    return {
      visible: sum('visible'),
      inFlight: sum('inFlight'),
      delayed: sum('delayed'),
      dead: dead.visible + dead.inFlight + dead.delayed,
    }
  }

  depths(): Promise<Depth[]> {
    const sharded = SHARDED.flatMap((lane) => Array.from({ length: this.shards }, (_, shard) => ({ lane, shard })))
    const all: Pick<Depth, 'lane' | 'shard'>[] = this.#bakes ? [...sharded, { lane: 'machine', shard: 0 }] : sharded
    return Promise.all(
      all.map(async (each) => ({ ...each, ...(await this.#counts(queueName(this.#prefix, each.lane, each.shard))) })),
    )
  }

  close(): void {
    this.#client.destroy()
  }

  async #counts(queue: string): Promise<{ visible: number; inFlight: number; delayed: number }> {
    const { Attributes = {} } = await this.#call(queue, (QueueUrl) =>
      this.#client.send(
        new this.#sdk.GetQueueAttributesCommand({
          QueueUrl,
          AttributeNames: [
            'ApproximateNumberOfMessages',
            'ApproximateNumberOfMessagesNotVisible',
            'ApproximateNumberOfMessagesDelayed',
          ],
        }),
      ),
    )
    return {
      visible: Number(Attributes.ApproximateNumberOfMessages ?? 0),
      inFlight: Number(Attributes.ApproximateNumberOfMessagesNotVisible ?? 0),
      delayed: Number(Attributes.ApproximateNumberOfMessagesDelayed ?? 0),
    }
  }

  async #call<T>(queue: string, send: (url: string) => Promise<T>): Promise<T> {
    try {
      return await send(await this.#url(queue))
    } catch (error) {
      throw sqsError(error, { queue, where: this.#where })
    }
  }

  /** Asked for once per queue; a failure is not remembered. */
  #url(queue: string): Promise<string> {
    const known = this.#urls.get(queue)
    if (known !== undefined) return known
    const url = this.#client.send(new this.#sdk.GetQueueUrlCommand({ QueueName: queue })).then(({ QueueUrl }) => QueueUrl ?? '')
    this.#urls.set(queue, url)
    url.catch(() => this.#urls.delete(queue))
    return url
  }
}

const fromSqs = (lane: Lane, shard: number, message: SqsMessage): Message => ({
  lane,
  shard,
  id: message.MessageId ?? '',
  body: message.Body ?? '',
  receipt: message.ReceiptHandle ?? '',
  receives: Number(message.Attributes?.ApproximateReceiveCount ?? 1),
  sentAtMs: Number(message.Attributes?.SentTimestamp ?? 0),
})
