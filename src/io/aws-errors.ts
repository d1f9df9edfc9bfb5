import { errnoOf } from '../errors.ts'

/** What a failure of an AWS service means whatever the service is. `unreachable`: nobody knows whether the request was carried out. */
export type AwsFailure = 'throttled' | 'denied' | 'unreachable'

/**
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
 * https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 */
const THROTTLED = new Set([
  'KmsThrottled',
  'OverLimit',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequestsException',
])
const DENIED = new Set([
  'AccessDenied',
  'AccessDeniedException',
  'AllAccessDisabled',
  'AuthFailure',
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'Forbidden',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidSecurity',
  'InvalidToken',
  'KmsAccessDenied',
  'RequestExpired',
  'RequestTimeTooSkewed',
  'SignatureDoesNotMatch',
  'TokenProviderError',
  'UnauthorizedOperation',
  'UnrecognizedClientException',
])
const NETWORK = new Set([
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ERR_PROXY_TUNNEL',
])
const NETWORK_NAMES = new Set(['TimeoutError', 'NetworkingError', 'RequestTimeout', 'RequestTimeoutException'])

/** Matched by name, HTTP status and errno; undefined: something that only the service's adapter knows, or nobody. */
export function awsFailure(error: unknown): AwsFailure | undefined {
  if (!(error instanceof Error)) return undefined
  const name = awsErrorName(error)
  const status = awsStatus(error) ?? 0
  if (THROTTLED.has(name) || status === 429) return 'throttled'
  if (DENIED.has(name) || status === 401 || status === 403) return 'denied'
  if (NETWORK.has(errnoOf(error) ?? '') || NETWORK_NAMES.has(name) || status >= 500) return 'unreachable'
  return undefined
}

/** The SDK puts the old query protocol's prefix before some names of SQS. */
export const awsErrorName = (error: Error): string => error.name.replace(/^AWS\.SimpleQueueService\./, '')

export const awsStatus = (error: Error): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
