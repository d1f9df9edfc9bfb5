import type { SSMClient } from '@aws-sdk/client-ssm'
import { BakeError, messageOf, refused, unavailable } from '../errors.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'

/** The values of parameters of AWS Systems Manager by name, decrypted; those that there are. */
export type ReadParameters = (names: string[]) => Promise<Map<string, Buffer>>

const MISSING = new Set(['ParameterNotFound', 'ParameterVersionNotFound'])
/** Of KMS: the key that a SecureString was encrypted with is gone or switched off. */
const KEY = new Set(['InvalidKeyId', 'KMSInvalidStateException', 'KMSDisabledException'])

/**
 * Reads from the region's Parameter Store (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html); AWS_REGION's unless told.
 * Throws secret_region, secret_denied, secret_invalid (refused) or secrets_unreachable (world's).
 */
export function ssmParameters(region = process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION): ReadParameters {
  let client: Promise<SSMClient> | undefined
  return async (names) => {
    if (names.length === 0) return new Map()
    if (region === undefined || region === '') {
      throw refused('secret_region', `nothing says in which region these secrets are: ${names.join(', ')}`, {
        next: 'give bake.yaml `aws: { region: … }`, or set AWS_REGION where the worker runs',
      })
    }
    const { GetParameterCommand, SSMClient } = await import('@aws-sdk/client-ssm')
    client ??= awsOptions({ service: 'SSM', region }).then((options) => new SSMClient(options))
    const ssm = await client
    const found = await Promise.all(
      names.map(async (name): Promise<[string, Buffer][]> => {
        try {
          const { Parameter } = await ssm.send(new GetParameterCommand({ Name: name, WithDecryption: true }))
          return Parameter?.Value === undefined ? [] : [[name, Buffer.from(Parameter.Value)]]
        } catch (error) {
          if (error instanceof Error && MISSING.has(awsErrorName(error))) return []
          throw ssmError(error, { name, region })
        }
      }),
    )
    return new Map(found.flat())
  }
}

/** What isn't known comes back as it is. */
function ssmError(error: unknown, { name, region }: { name: string; region: string }): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const details = { ids: { parameter: name, region }, cause: error }
  const code = awsErrorName(error)
  if (awsFailure(error) === 'denied' || KEY.has(code))
    return refused('secret_denied', `the worker may not read the secret ${name} in ${region}: ${messageOf(error) || code}`, {
      ...details,
      next: `allow the worker's credentials ssm:GetParameter on it, and kms:Decrypt on its key (bake setup --policies prints the policy)`,
    })
  if (awsFailure(error) !== undefined)
    return unavailable('secrets_unreachable', `SSM in ${region} doesn't give the secret ${name}: ${messageOf(error) || code}`, {
      ...details,
      next: 'check the network (HTTPS_PROXY, AWS_ENDPOINT_URL_SSM) and https://health.aws.amazon.com',
    })
  if (code === 'ValidationException')
    return refused('secret_invalid', `SSM has no such names: ${name}`, { ...details, next: 'correct `ssm:` in bake.yaml' })
  return error
}
