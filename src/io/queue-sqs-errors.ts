import { BakeError, errnoOf, messageOf, refused, unavailable } from '../errors.ts'

/** What a call was about, for the message: queue name and endpoint or region. */
export interface SqsPlace {
  queue: string
  where: string
}

/** The receipt is not valid any more: expired, or the message was deleted or handed out again. `InvalidParameterValue` is what SQS says for an expired handle. */
const LOST = new Set(['MessageNotInflight', 'ReceiptHandleIsInvalid', 'InvalidParameterValue'])
const MISSING = new Set(['QueueDoesNotExist', 'NonExistentQueue', 'QueueDeletedRecently'])
const THROTTLED = new Set([
  'RequestThrottled',
  'ThrottlingException',
  'Throttling',
  'TooManyRequestsException',
  'OverLimit',
  'KmsThrottled',
])
const DENIED = new Set([
  'AccessDenied',
  'AccessDeniedException',
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidClientTokenId',
  'InvalidSecurity',
  'KmsAccessDenied',
  'SignatureDoesNotMatch',
  'UnrecognizedClientException',
])
const NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
])

export const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError'
export const isLost = (error: unknown): boolean => error instanceof Error && LOST.has(nameOf(error))

/** The SDK puts the old query protocol's prefix before some names. */
const nameOf = (error: Error): string => error.name.replace(/^AWS\.SimpleQueueService\./, '')

const httpStatusOf = (error: Error): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode

/** An SQS error as a BakeError; matched by name (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html). What isn't known comes back as it is. */
export function sqsError(error: unknown, { queue, where }: SqsPlace): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const name = nameOf(error)
  const details = { ids: { queue }, cause: error }
  if (MISSING.has(name))
    return unavailable('queue_missing', `there is no queue ${queue} at ${where}`, {
      ...details,
      next: 'Check `aws.queue` and `aws.region` in bake.yaml, or create the queue.',
    })
  if (THROTTLED.has(name))
    return unavailable('queue_throttled', `the queue ${queue} refuses more requests for now: ${error.message}`, {
      ...details,
      next: 'Try again in a minute.',
    })
  if (DENIED.has(name))
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
  const network = NETWORK.has(errnoOf(error) ?? '') || name === 'TimeoutError' || name === 'NetworkingError'
  if (network || (httpStatusOf(error) ?? 0) >= 500)
    return unavailable('queue_unreachable', `the queue ${queue} at ${where} does not answer: ${messageOf(error) || name}`, {
      ...details,
      next: 'Check the network; without `aws:` in bake.yaml, run the command again: it starts the queue.',
    })
  return error
}
