import { BakeError, messageOf, unavailable } from '../errors.ts'
import { awsFailure } from './aws-errors.ts'

/** An error of ECR's own API (not of a registry's) as a BakeError: registry_denied, registry_throttled, registry_unreachable. What isn't known comes back as it is. */
export function ecrError(error: unknown, { what, where }: { what: string; where: string }): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const failure = awsFailure(error)
  const details = { ids: { region: where }, cause: error }
  if (failure === 'denied')
    return unavailable('registry_denied', `no permission for ECR in ${where} (${what}): ${error.message}`, {
      ...details,
      next: 'check the AWS credentials (aws sts get-caller-identity), and that they allow what bake setup --policies prints',
    })
  if (failure === 'throttled')
    return unavailable('registry_throttled', `ECR in ${where} refuses more requests for now (${what}): ${error.message}`, {
      ...details,
      next: 'try again in a minute',
    })
  if (failure === 'unreachable')
    return unavailable('registry_unreachable', `ECR in ${where} does not answer (${what}): ${messageOf(error) || error.name}`, {
      ...details,
      next: 'check the network, and AWS_ENDPOINT_URL if that is set',
    })
  return error
}
