import { BakeError, messageOf, unavailable } from '../errors.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'

/** What a call was about, for the message. */
export interface Ec2Call {
  /** Of the API and of IAM, which are called the same: `RunInstances`. */
  action: string
  region: string
  /** The id or name it is about. */
  subject: string
  /** Other permissions that the call needs: `ec2:CreateTags`. */
  also?: string[]
  /** IAM's name of the service, `ec2` unless told. */
  service?: keyof typeof SERVICES
}

/** By IAM's name. */
const SERVICES = {
  ec2: 'EC2',
  autoscaling: 'Auto Scaling',
  ebs: 'EBS direct APIs',
  elasticloadbalancing: 'Elastic Load Balancing',
  ssm: 'Systems Manager',
} as const

/** The account has as many as it may have. */
const LIMITS = new Set([
  'InstanceLimitExceeded',
  'MaxSpotInstanceCountExceeded',
  'ResourceLimitExceeded',
  'SecurityGroupLimitExceeded',
  'SubnetLimitExceeded',
  'VcpuLimitExceeded',
  'VolumeLimitExceeded',
  'VpcLimitExceeded',
])
/** This type can't be had in this zone, now or ever; another zone may have it. */
const NO_ROOM = new Set(['InsufficientInstanceCapacity', 'InsufficientCapacity', 'Unsupported'])
/** The region must be switched on, or a product of the marketplace subscribed to. */
const NOT_SUBSCRIBED = new Set(['OptInRequired', 'PendingVerification'])

/**
 * An error of EC2, or of one of the others, as a BakeError, all of exit 4: ec2_denied names the IAM action, ec2_throttled, ec2_unreachable, ec2_limit, ec2_capacity, ec2_not_subscribed,
 * ec2_refused (anything else that EC2 said). What isn't EC2's comes back as it is.
 */
export function ec2Error(error: unknown, call: Ec2Call): unknown {
  if (!(error instanceof Error) || error instanceof BakeError) return error
  const name = awsErrorName(error)
  const { action, region, subject } = call
  const service = SERVICES[call.service ?? 'ec2']
  const details = { ids: { action, region, subject }, cause: error }
  const said = `${action} of ${subject} in ${region}`
  const failure = awsFailure(error)
  if (NOT_SUBSCRIBED.has(name))
    return unavailable('ec2_not_subscribed', `${said}: ${plain(error)}`, {
      ...details,
      next: `accept the terms of the base image's product in AWS Marketplace, or switch the region ${region} on for this account`,
    })
  if (NO_ROOM.has(name))
    return unavailable('ec2_capacity', `${said}: ${plain(error)}`, {
      ...details,
      next: 'try again later, or choose another machine.instance_type',
    })
  if (LIMITS.has(name))
    return unavailable('ec2_limit', `${said}: ${plain(error)}`, {
      ...details,
      next: 'bake prune removes what dead runs left; else ask for a higher quota',
    })
  if (failure === 'denied') return denied(error, call, details)
  if (failure === 'throttled')
    return unavailable('ec2_throttled', `${service} in ${region} refuses more requests for now (${said}): ${plain(error)}`, {
      ...details,
      next: 'try again in a minute',
    })
  if (failure === 'unreachable')
    return unavailable('ec2_unreachable', `${service} in ${region} does not answer (${said}): ${messageOf(error) || name}`, {
      ...details,
      next: 'check the network (HTTPS_PROXY, AWS_ENDPOINT_URL), the name of the region, and https://health.aws.amazon.com',
    })
  if (!('$metadata' in error)) return error
  return unavailable('ec2_refused', `${service} answered ${name} to ${said}: ${plain(error)}`, details)
}

function denied(error: Error, { action, region, subject, also = [], service = 'ec2' }: Ec2Call, details: object): BakeError {
  const needed = [`${service}:${action}`, ...also]
  const name = awsErrorName(error)
  return unavailable('ec2_denied', `no permission for ${needed[0]} (${subject}, ${region}): ${plain(error)}`, {
    ...details,
    next:
      name === 'UnauthorizedOperation' || name.startsWith('AccessDenied')
        ? `allow ${needed.join(' and ')} for these credentials; bake setup --policies prints what each role needs`
        : 'check the AWS credentials: aws sts get-caller-identity',
  })
}

/** Without the kilobyte of base64 that only sts:DecodeAuthorizationMessage can read. */
const plain = (error: Error): string =>
  (messageOf(error).split(' Encoded authorization failure message:')[0] ?? '').trim() || error.name

export const ec2ErrorName = (error: unknown): string =>
  error instanceof BakeError ? ec2ErrorName(error.cause) : error instanceof Error ? awsErrorName(error) : ''
