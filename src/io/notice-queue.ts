import { awsOptions } from './aws-client.ts'
import { sqsError } from './queue-sqs-errors.ts'

export interface QueueNotice {
  region: string
  account: string
  /** With `.fifo` at its end: sent with `id` to tell repetitions by, in the order of `group`. */
  name: string
  id: string
  type: string
  group: string
  body: string
  signal: AbortSignal
}

/** The SDK's own tries included. */
const TIMEOUT_MS = 10_000

/** Sends one message to anybody's SQS queue, with the attributes `id` and `type`. Throws what queue-sqs throws, or the signal's reason. */
export async function sendToQueue({ region, account, name, id, type, group, body, signal }: QueueNotice): Promise<void> {
  const sdk = await import('@aws-sdk/client-sqs')
  const client = new sdk.SQSClient({ ...(await awsOptions({ service: 'SQS', region })), useQueueUrlAsEndpoint: false })
  const abortSignal = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)])
  const text = (value: string) => ({ DataType: 'String', StringValue: value })
  try {
    const command = new sdk.GetQueueUrlCommand({ QueueName: name, QueueOwnerAWSAccountId: account })
    const { QueueUrl } = await client.send(command, { abortSignal })
    const fifo = name.endsWith('.fifo') ? { MessageGroupId: group, MessageDeduplicationId: id } : {}
    const message = { QueueUrl, MessageBody: body, MessageAttributes: { id: text(id), type: text(type) }, ...fifo }
    await client.send(new sdk.SendMessageCommand(message), { abortSignal })
  } catch (error) {
    signal.throwIfAborted()
    throw sqsError(error, { queue: name, where: region })
  } finally {
    client.destroy()
  }
}
