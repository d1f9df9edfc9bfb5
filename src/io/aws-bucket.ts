import type { BucketLocationConstraint, LifecycleRule, S3Client } from '@aws-sdk/client-s3'
import { refused, unavailable } from '../errors.ts'
import { type BucketPolicy, expiryOf, isTlsOnly, NO_POLICY, withExpiry, withTlsOnly } from './aws-bucket-rules.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName, awsStatus } from './aws-errors.ts'
import { partitionOf } from './aws-region.ts'
import type { Found, Resource, ResourceStore, Settings } from './aws-resource.ts'
import { s3Error } from './ledger-s3-errors.ts'

type Sdk = typeof import('@aws-sdk/client-s3')
interface Connection {
  sdk: Sdk
  client: S3Client
  /** Without TLS, as emulators are: a rule that refuses such requests would shut everybody out. */
  plain: boolean
}

/** The region whose buckets name none: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html */
const UNNAMED_REGION = 'us-east-1'
const NO_PUBLIC = { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true }

/**
 * A ledger's bucket as `bake setup` sees and makes it. What others set on it (more lifecycle rules, statements of its policy, versioning) stays. Errors:
 * bucket_taken, bucket_elsewhere (exit 2), bucket_denied, ledger_* (exit 4).
 */
export class AwsBucket implements ResourceStore {
  readonly #region: string
  #connection: Promise<Connection> | undefined

  /** Loads the SDK with the first call. */
  constructor(region: string) {
    this.#region = region
  }

  async look({ name, settings }: Resource): Promise<Found | undefined> {
    const region = await this.#regionOf(name)
    if (region === undefined) return undefined
    if (region !== settings.region) throw elsewhere(name, region)
    const [encrypted, isPrivate, policy, rules] = await Promise.all([
      this.#optional(name, 'ServerSideEncryptionConfigurationNotFoundError', async ({ sdk, client }) => {
        const { ServerSideEncryptionConfiguration } = await client.send(new sdk.GetBucketEncryptionCommand({ Bucket: name }))
        return (ServerSideEncryptionConfiguration?.Rules?.length ?? 0) > 0
      }),
      this.#optional(name, 'NoSuchPublicAccessBlockConfiguration', async ({ sdk, client }) => {
        const { PublicAccessBlockConfiguration: block } = await client.send(new sdk.GetPublicAccessBlockCommand({ Bucket: name }))
        return Object.keys(NO_PUBLIC).every((key) => block?.[key as keyof typeof NO_PUBLIC] === true)
      }),
      this.#policy(name),
      this.#rules(name),
    ])
    const days = Object.keys(settings.expiryDays as Settings).map((prefix) => [prefix, expiryOf(rules, prefix)])
    const { plain } = await this.#connected()
    return {
      ...(plain && { unsupported: { tlsOnly: 'its endpoint is plain HTTP' } }),
      settings: {
        region,
        encrypted: encrypted ?? false,
        private: isPrivate ?? false,
        tlsOnly: isTlsOnly(policy),
        expiryDays: Object.fromEntries(days.filter(([, value]) => value !== undefined)),
      },
    }
  }

  async create(wanted: Resource): Promise<void> {
    const { name, settings } = wanted
    const LocationConstraint = settings.region as BucketLocationConstraint
    const configuration = settings.region === UNNAMED_REGION ? {} : { CreateBucketConfiguration: { LocationConstraint } }
    await this.#call(name, async ({ sdk, client }) => {
      await client.send(new sdk.CreateBucketCommand({ Bucket: name, ...configuration })).catch((error: Error) => {
        if (awsErrorName(error) !== 'BucketAlreadyOwnedByYou') throw error
      })
    })
    await this.change(wanted, Object.keys(settings))
  }

  async change({ name, settings }: Resource, names: string[]): Promise<void> {
    const Bucket = name
    if (names.includes('encrypted')) {
      const rule = { ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' as const } }
      const ServerSideEncryptionConfiguration = { Rules: [rule] }
      await this.#call(name, ({ sdk, client }) =>
        client.send(new sdk.PutBucketEncryptionCommand({ Bucket, ServerSideEncryptionConfiguration })),
      )
    }
    if (names.includes('private'))
      await this.#call(name, ({ sdk, client }) =>
        client.send(new sdk.PutPublicAccessBlockCommand({ Bucket, PublicAccessBlockConfiguration: NO_PUBLIC })),
      )
    if (names.includes('tlsOnly') && !(await this.#connected()).plain) {
      const Policy = JSON.stringify(withTlsOnly(await this.#policy(name), name, partitionOf(this.#region)))
      await this.#call(name, ({ sdk, client }) => client.send(new sdk.PutBucketPolicyCommand({ Bucket, Policy })))
    }
    if (names.includes('expiryDays')) {
      // S3 takes all rules of a bucket at once, so those of others are put back.
      const Rules = withExpiry(await this.#rules(name), settings.expiryDays as Record<string, number>)
      await this.#call(name, ({ sdk, client }) =>
        client.send(new sdk.PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration: { Rules } })),
      )
    }
  }

  /** Undefined: there is no such bucket. */
  async #regionOf(name: string): Promise<string | undefined> {
    return this.#call(name, async ({ sdk, client }) => {
      try {
        const { BucketRegion } = await client.send(new sdk.HeadBucketCommand({ Bucket: name }))
        return BucketRegion || this.#region
      } catch (error) {
        const status = error instanceof Error ? awsStatus(error) : undefined
        const region = (error as { $response?: { headers?: Record<string, string> } }).$response?.headers?.['x-amz-bucket-region']
        if (status === 404) return undefined
        if (region !== undefined && region !== this.#region) return region
        if (status === 403) throw notYours(name, error)
        throw error
      }
    })
  }

  async #rules(name: string): Promise<LifecycleRule[]> {
    const rules = await this.#optional(name, 'NoSuchLifecycleConfiguration', async ({ sdk, client }) => {
      const { Rules = [] } = await client.send(new sdk.GetBucketLifecycleConfigurationCommand({ Bucket: name }))
      return Rules
    })
    return rules ?? []
  }

  async #policy(name: string): Promise<BucketPolicy> {
    const text = await this.#optional(name, 'NoSuchBucketPolicy', async ({ sdk, client }) => {
      return (await client.send(new sdk.GetBucketPolicyCommand({ Bucket: name }))).Policy
    })
    return text ? JSON.parse(text) : NO_POLICY
  }

  /** Undefined when the bucket has no such configuration, which S3 tells as an error. */
  async #optional<T>(name: string, absent: string, send: (connection: Connection) => Promise<T>): Promise<T | undefined> {
    return this.#call(name, async (connection) => {
      try {
        return await send(connection)
      } catch (error) {
        if (error instanceof Error && awsErrorName(error) === absent) return undefined
        throw error
      }
    })
  }

  #connected(): Promise<Connection> {
    this.#connection ??= connect(this.#region)
    return this.#connection
  }

  async #call<T>(bucket: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      return await send(await this.#connected())
    } catch (error) {
      if (error instanceof Error && awsErrorName(error) === 'BucketAlreadyExists') throw taken(bucket, error)
      throw s3Error(error, { bucket, object: `s3://${bucket}`, where: this.#region })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-s3'), awsOptions({ service: 'S3', region })])
  // Other servers have no name in the DNS for each bucket.
  const client = new sdk.S3Client({ ...options, forcePathStyle: options.endpoint !== undefined })
  return { sdk, client, plain: options.endpoint?.startsWith('http:') ?? false }
}

const elsewhere = (bucket: string, region: string) =>
  refused('bucket_elsewhere', `the bucket ${bucket} is in ${region}`, {
    next: `set aws.region in bake.yaml to ${region}, or aws.bucket to a name that nobody has yet`,
    ids: { bucket, region },
  })

const taken = (bucket: string, cause: unknown) =>
  refused('bucket_taken', `another account has a bucket called ${bucket}: names are shared by all of AWS`, {
    next: 'choose another aws.bucket in bake.yaml',
    ids: { bucket },
    cause,
  })

/** S3 says no more than this, so as not to tell strangers what exists. */
const notYours = (bucket: string, cause: unknown) =>
  unavailable('bucket_denied', `the bucket ${bucket} is another account's, or these credentials may not see it`, {
    next: 'choose another aws.bucket in bake.yaml, or use credentials with the `setup` policy of bake setup --policies',
    ids: { bucket },
    cause,
  })
