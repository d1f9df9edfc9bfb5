import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HeadObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { BakeError, unavailable } from '../errors.ts'
import { entry } from '../names.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName, awsFailure } from './aws-errors.ts'
import type { Ledger } from './ledger.ts'
import { checkKey, checkPrefix } from './ledger-key.ts'
import { s3Error } from './ledger-s3-errors.ts'

/** What ListObjectsV2 gives at most per call. */
const PAGE = 1_000
/** How long a create is tried whose outcome nobody knows: longer than leases are, so that a claim that was made all the same is not a live worker's. */
const CREATE_MS = 60_000
const LONGEST_PAUSE_MS = 5_000
const RETRY_MS = 200
const UNDECIDED = new Set(['ledger_unreachable', 'ledger_throttled'])
/** A connection that breaks within an answer's body is beyond the SDK's own retries. */
const READS = 4

export interface S3LedgerOptions {
  bucket: string
  region: string
  /** Every key is under `<prefix>/`: for fleets that share a bucket. */
  prefix?: string
  /** Of an emulator. Else AWS, or where AWS_ENDPOINT_URL* points. */
  endpoint?: string
}

type Sdk = typeof import('@aws-sdk/client-s3')
interface Connection {
  sdk: Sdk
  client: S3Client
  where: string
}

/**
 * The ledger in a bucket: key `a/b` is the object `<prefix>/a/b`. S3 is strongly consistent, lists in order, and a PUT with `If-None-Match: *` succeeds
 * once per key (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). Objects are encrypted as the bucket says.
 * Errors: `ledger_key` (refused), `ledger_damaged`, `ledger_missing`, `ledger_denied`, `ledger_throttled`, `ledger_unreachable` (exit 4).
 */
export class S3Ledger implements Ledger {
  readonly #options: S3LedgerOptions
  readonly #root: string
  #connection: Promise<Connection> | undefined

  /** Loads the SDK with the first call. */
  constructor(options: S3LedgerOptions) {
    this.#options = options
    this.#root = options.prefix ? `${options.prefix}/` : ''
  }

  async create(key: string, document: object): Promise<boolean> {
    // Beside the document, where a later `put` of the same key removes it: whoever asks then created nothing lately.
    const nonce = 'nonce' in document && typeof document.nonce === 'string' ? document.nonce : randomUUID()
    const input = exclusively(document, nonce)
    const end = performance.now() + CREATE_MS
    for (let pauseMs = RETRY_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        const made = await this.#exclusive(key, input)
        if (made !== undefined) return made
      } catch (error) {
        // Whether it was carried out, only the next try tells: it succeeds, or finds the key taken.
        if (!(error instanceof BakeError && UNDECIDED.has(error.code)) || performance.now() + pauseMs > end) throw error
      }
      await sleep(pauseMs / 2 + Math.random() * (pauseMs / 2))
    }
  }

  /** True: made, now or by a try before whose answer was lost. Undefined: it was taken and is gone, so one must try again. */
  async #exclusive(key: string, input: ReturnType<typeof exclusively>): Promise<boolean | undefined> {
    try {
      await this.#send(key, ({ sdk, client }, at) => client.send(new sdk.PutObjectCommand({ ...at, ...input })))
      return true
    } catch (error) {
      if (!isTaken(error)) throw error
      const head = await this.#head(key)
      return head && head.Metadata?.nonce === input.Metadata.nonce
    }
  }

  async put(key: string, document: object): Promise<void> {
    await this.#send(key, ({ sdk, client }, at) => client.send(new sdk.PutObjectCommand({ ...at, ...json(document) })))
  }

  async get(key: string): Promise<unknown> {
    const bytes = await this.#read(key)
    if (bytes === undefined) return undefined
    try {
      const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
      if (typeof value === 'object' && value !== null) return value
    } catch {}
    const object = this.#name(key)
    throw unavailable(
      'ledger_damaged',
      `ledger document ${key} is damaged: ${object} (${bytes.length} bytes) is not a JSON object`,
      {
        next: `move ${object} out of the ledger (keep it as evidence) and run the command again`,
        ids: { document: key, path: object },
      },
    )
  }

  async append(prefix: string, n: number, bytes: Uint8Array): Promise<void> {
    const input = { Body: bytes, ContentType: 'application/octet-stream' }
    await this.#send(`${prefix}/${entry(n)}`, ({ sdk, client }, at) => client.send(new sdk.PutObjectCommand({ ...at, ...input })))
  }

  async chunk(prefix: string, n: number): Promise<Uint8Array | undefined> {
    return this.#read(`${prefix}/${entry(n)}`)
  }

  async touch(key: string): Promise<void> {
    await this.put(key, {})
  }

  /** Between two times that S3 tells, in whole seconds. */
  async age(key: string): Promise<number | undefined> {
    const head = await this.#head(key)
    if (head?.LastModified === undefined) return undefined
    return Math.max(0, head.now - head.LastModified.getTime())
  }

  async list(prefix: string, options: { after?: string; limit?: number } = {}): Promise<string[]> {
    const { limit = Number.POSITIVE_INFINITY } = options
    const whole = this.#root + prefix
    checkPrefix(whole)
    const found: string[] = []
    let after = options.after === undefined ? undefined : this.#root + options.after
    while (found.length < limit) {
      const MaxKeys = Math.min(PAGE, limit - found.length)
      const page = await this.#call(prefix, ({ sdk, client }) =>
        client.send(
          new sdk.ListObjectsV2Command({
            Bucket: this.#options.bucket,
            Prefix: whole,
            MaxKeys,
            ...(after === undefined ? {} : { StartAfter: after }),
          }),
        ),
      )
      const keys = (page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key]))
      found.push(...keys.map((key) => key.slice(this.#root.length)))
      after = keys.at(-1)
      if (page.IsTruncated !== true || after === undefined) break
    }
    return found
  }

  async #read(key: string): Promise<Uint8Array | undefined> {
    for (let reads = 1; ; reads++) {
      try {
        return await this.#send(key, async ({ sdk, client }, at) =>
          (await client.send(new sdk.GetObjectCommand(at))).Body?.transformToByteArray(),
        )
      } catch (error) {
        if (isMissing(error)) return undefined
        const cause = error instanceof BakeError ? error.cause : undefined
        // With its metadata (attempts, status) it was the SDK that gave up.
        const midway = awsFailure(cause) === 'unreachable' && !Object.hasOwn(cause as object, '$metadata')
        if (!midway || reads === READS) throw error
        await sleep(RETRY_MS * reads)
      }
    }
  }

  /** Undefined when there is no such object; then S3 doesn't tell whether there is such a bucket. `now`: S3's own, ms since the epoch. */
  async #head(key: string): Promise<(HeadObjectCommandOutput & { now: number }) | undefined> {
    let date: string | undefined
    try {
      const head = await this.#send(key, ({ sdk, client }, at) => {
        const command = new sdk.HeadObjectCommand(at)
        // The SDK's outputs leave this header out.
        command.middlewareStack.add(
          (next) => async (args) => {
            const result = await next(args)
            date = (result.response as { headers?: Record<string, string> }).headers?.date
            return result
          },
          { step: 'deserialize', name: 'dateHeader' },
        )
        return client.send(command)
      })
      return { ...head, now: date === undefined ? Date.now() : Date.parse(date) }
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  #name(key: string): string {
    return `s3://${this.#options.bucket}/${this.#root}${key}`
  }

  #send<T>(key: string, send: (connection: Connection, at: { Bucket: string; Key: string }) => Promise<T>): Promise<T> {
    const Key = this.#root + key
    checkKey(Key)
    return this.#call(key, (connection) => send(connection, { Bucket: this.#options.bucket, Key }))
  }

  async #call<T>(key: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    const connection = await this.#connect()
    try {
      return await send(connection)
    } catch (error) {
      throw s3Error(error, { bucket: this.#options.bucket, object: this.#name(key), where: connection.where })
    }
  }

  #connect(): Promise<Connection> {
    this.#connection ??= connect(this.#options)
    // A failure (a damaged ~/.aws/config) is not remembered.
    this.#connection.catch(() => {
      this.#connection = undefined
    })
    return this.#connection
  }
}

async function connect({ region, endpoint }: S3LedgerOptions): Promise<Connection> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-s3'), awsOptions({ service: 'S3', region, endpoint })])
  // Other servers have no name in the DNS for each bucket.
  const client = new sdk.S3Client({ ...options, forcePathStyle: options.endpoint !== undefined })
  return { sdk, client, where: options.endpoint ?? options.region }
}

const json = (document: object) => ({ Body: JSON.stringify(document), ContentType: 'application/json' })

const exclusively = (document: object, nonce: string) => ({ ...json(document), IfNoneMatch: '*', Metadata: { nonce } })

const isTaken = (error: unknown) => error instanceof Error && awsErrorName(error) === 'PreconditionFailed'
/** The answer to a HEAD has no body that could tell more than 404. */
const isMissing = (error: unknown) => error instanceof Error && ['NoSuchKey', 'NotFound'].includes(awsErrorName(error))
