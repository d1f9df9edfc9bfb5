import { BakeError, messageOf, unavailable } from '../errors.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'

/** What a call was about: the object, as s3://bucket/key, and the endpoint or region. */
export interface S3Place {
  bucket: string
  object: string
  where: string
}

const MISSING = new Set(['NoSuchBucket'])
/** What S3 says in one region of a bucket in another. */
const ELSEWHERE = new Set(['PermanentRedirect', 'AuthorizationHeaderMalformed', 'IllegalLocationConstraintException'])

/** Two conditional writes met: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-write-errors.html says to try again. */
const CONFLICT = 'ConditionalRequestConflict'

/** An S3 error as a BakeError; matched by name (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html). What isn't known comes back as it is. */
export function s3Error(error: unknown, { bucket, object, where }: S3Place): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const name = awsErrorName(error)
  const details = { ids: { bucket, object }, cause: error }
  if (MISSING.has(name))
    return unavailable('ledger_missing', `there is no bucket ${bucket} at ${where}`, {
      ...details,
      next: 'bake setup creates what is missing; else check `aws.bucket` and `aws.region` in bake.yaml',
    })
  if (ELSEWHERE.has(name))
    return unavailable('ledger_missing', `the bucket ${bucket} isn't in ${where}: ${messageOf(error)}`, {
      ...details,
      next: "set `aws.region` in bake.yaml to the bucket's region",
    })
  if (name === CONFLICT)
    return unavailable('ledger_throttled', `others write ${object} at the same time, again and again`, {
      ...details,
      next: 'try again in a minute',
    })
  switch (awsFailure(error)) {
    case 'throttled':
      return unavailable('ledger_throttled', `S3 refuses more requests for now (${name}): ${object}`, {
        ...details,
        next: 'try again in a minute',
      })
    case 'denied':
      return unavailable('ledger_denied', `no permission for the ledger ${object}: ${messageOf(error) || name}`, {
        ...details,
        next: `check the AWS credentials, and that they allow s3:ListBucket on ${bucket}, s3:GetObject and s3:PutObject in it (bake setup --policies)`,
      })
    case 'unreachable':
      return unavailable('ledger_unreachable', `the ledger ${object} at ${where} does not answer: ${messageOf(error) || name}`, {
        ...details,
        next: 'check the network (HTTPS_PROXY, AWS_ENDPOINT_URL) and https://health.aws.amazon.com, then run the command again',
      })
    default:
      return error
  }
}
