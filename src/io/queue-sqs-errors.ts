import { BakeError, messageOf, refused, unavailable } from '../errors.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'

/** What a call was about, for the message: queue name, and `http://…` of this machine's own queue or a region. */
export interface SqsPlace {
  queue: string
  where: string
}

/** The receipt is not valid any more: expired, or the message was deleted or handed out again. `InvalidParameterValue` is what SQS says for an expired handle. */
const LOST = new Set(['MessageNotInflight', 'ReceiptHandleIsInvalid', 'InvalidParameterValue'])
const MISSING = new Set(['QueueDoesNotExist', 'NonExistentQueue', 'QueueDeletedRecently'])

export const isLost = (error: unknown): boolean => error instanceof Error && LOST.has(awsErrorName(error))

/** An SQS error as a BakeError; matched by name (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html). What isn't known comes back as it is. */
export function sqsError(error: unknown, { queue, where }: SqsPlace): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const name = awsErrorName(error)
  const failure = awsFailure(error)
  const details = { ids: { queue }, cause: error }
  if (MISSING.has(name))
    return unavailable('queue_missing', `there is no queue ${queue} at ${where}`, {
      ...details,
      next: 'Check `aws.queue` and `aws.region` in bake.yaml, or run `bake setup`, which creates what is missing.',
    })
  if (failure === 'throttled')
    return unavailable('queue_throttled', `the queue ${queue} refuses more requests for now: ${error.message}`, {
      ...details,
      next: 'Try again in a minute.',
    })
  if (failure === 'denied')
    return unavailable('queue_denied', `no permission for the queue ${queue} at ${where}: ${error.message}`, {
      ...details,
      next: 'Check the AWS credentials and that they allow sqs:* actions on this queue.',
    })
  if (name === 'InvalidMessageContents')
    return refused('message_invalid', `SQS takes no such characters in a message: ${error.message}`, details)
  // The embedded queue's own.
  if (name === 'DiskFull')
    return unavailable('disk_full', `no space left for the queue ${queue}`, {
      ...details,
      next: 'Free some disk space and run the command again.',
    })
  if (failure === 'unreachable')
    return unavailable('queue_unreachable', `the queue ${queue} at ${where} does not answer: ${messageOf(error) || name}`, {
      ...details,
      next: where.startsWith('http:')
        ? 'run the command again: it starts the queue'
        : 'check the network (HTTPS_PROXY, AWS_ENDPOINT_URL) and https://health.aws.amazon.com, then run the command again',
    })
  return error
}
