import type { EBSClient } from '@aws-sdk/client-ebs'
import { z } from 'zod'
import { BakeError, unavailable } from '../errors.ts'
import { awsOptions } from './aws-client.ts'
import { awsErrorName } from './aws-errors.ts'
import { type BlockPut, type PutPlace, putBlock } from './ebs-put.ts'
import type { Ec2Tags } from './ec2.ts'
import { tagList } from './ec2.ts'
import { ec2Error } from './ec2-errors.ts'

type Sdk = typeof import('@aws-sdk/client-ebs')

interface Connection {
  sdk: Sdk
  client: EBSClient
  place: PutPlace
  close(): void
}

export interface SnapshotStart {
  /** A multiple of 1 GiB, not less than the parent's. */
  volumeBytes: number
  /** Blocks that aren't put are its; it decides the encryption too. */
  parent?: string
  description: string
  tags: Ec2Tags
  /** The same token makes the same snapshot, whoever asks again; up to 64 characters. */
  token: string
}

export interface SnapshotBlock {
  index: number
  /** What `getBlock` takes, for some hours. */
  token: string
}

/** As the API has it: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-elements.html */
const BLOCK_BYTES = 512 * 1024
const GIB = 2 ** 30
/** A snapshot that nobody puts to or completes for so long is cancelled by EBS: the least that it allows. */
const TIMEOUT_MINUTES = 10
const PAGE = 10_000

const startedSchema = z.object({ SnapshotId: z.string().regex(/^snap-[0-9a-f]+$/), BlockSize: z.literal(BLOCK_BYTES) })
const listedSchema = z.object({
  Blocks: z.array(z.object({ BlockIndex: z.number().int().min(0), BlockToken: z.string().min(1) })).default([]),
  VolumeSize: z.number().int().min(1),
  BlockSize: z.literal(BLOCK_BYTES),
  NextToken: z.string().optional(),
})
const changedSchema = listedSchema.omit({ Blocks: true }).extend({
  ChangedBlocks: z
    .array(z.object({ BlockIndex: z.number().int().min(0), SecondBlockToken: z.string().min(1).optional() }))
    .default([]),
})

/**
 * The EBS direct APIs of one region. Loads the SDK with the first call. Errors, all of exit 4: ec2_denied with the action to allow, ec2_throttled, ec2_unreachable,
 * ebs_missing (no such snapshot, or not yet), ebs_busy (that block is being written), ec2_refused (anything else that it said), ebs_answer.
 */
export class Ebs implements AsyncDisposable {
  readonly region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.region = region
  }

  /** Begins a snapshot; its id. */
  async start({ volumeBytes, parent, description, tags, token }: SnapshotStart): Promise<string> {
    const subject = parent === undefined ? 'a snapshot' : `a child of ${parent}`
    const answer = await this.#call('StartSnapshot', subject, ({ sdk, client }) =>
      client.send(
        new sdk.StartSnapshotCommand({
          VolumeSize: Math.ceil(volumeBytes / GIB),
          ...(parent !== undefined && { ParentSnapshotId: parent }),
          Description: description,
          Tags: tagList(tags),
          ClientToken: token,
          Timeout: TIMEOUT_MINUTES,
        }),
      ),
    )
    return this.#parsed(startedSchema, answer, 'StartSnapshot').SnapshotId
  }

  /** Sent once: whoever puts thousands knows when to send again. */
  async putBlock(put: BlockPut, signal: AbortSignal): Promise<void> {
    await this.#call('PutSnapshotBlock', put.snapshot, ({ place }) => putBlock(put, place, signal))
  }

  /** `checksum`: SHA-256 of the SHA-256 of each block that was put, in the order of their indexes; base64. */
  async complete(snapshot: string, { blocks, checksum }: { blocks: number; checksum: string }): Promise<void> {
    await this.#call('CompleteSnapshot', snapshot, ({ sdk, client }) =>
      client.send(
        new sdk.CompleteSnapshotCommand({
          SnapshotId: snapshot,
          ChangedBlocksCount: blocks,
          Checksum: checksum,
          ChecksumAlgorithm: 'SHA256',
          ChecksumAggregationMethod: 'LINEAR',
        }),
      ),
    )
  }

  /** All blocks that it or its ancestors have, ascending. What isn't told of was never written. */
  async listBlocks(snapshot: string, signal: AbortSignal): Promise<{ volumeBytes: number; blocks: SnapshotBlock[] }> {
    const blocks: SnapshotBlock[] = []
    for (let next: string | undefined; ; ) {
      const answer = await this.#call('ListSnapshotBlocks', snapshot, ({ sdk, client }) => {
        const input = { SnapshotId: snapshot, MaxResults: PAGE, NextToken: next }
        return client.send(new sdk.ListSnapshotBlocksCommand(input), { abortSignal: signal })
      })
      const page = this.#parsed(listedSchema, answer, 'ListSnapshotBlocks')
      blocks.push(...page.Blocks.map(({ BlockIndex, BlockToken }) => ({ index: BlockIndex, token: BlockToken })))
      next = page.NextToken
      if (next === undefined) return { volumeBytes: page.VolumeSize * GIB, blocks }
    }
  }

  /**
   * Blocks in which it differs from a snapshot that it descends from, ascending; without a token what only the other one has. Throws ec2_refused for snapshots of
   * different lineages.
   */
  async listChangedBlocks(
    { snapshot, since }: { snapshot: string; since: string },
    signal: AbortSignal,
  ): Promise<{ index: number; token?: string }[]> {
    const blocks: { index: number; token?: string }[] = []
    for (let next: string | undefined; ; ) {
      const answer = await this.#call('ListChangedBlocks', snapshot, ({ sdk, client }) => {
        const input = { FirstSnapshotId: since, SecondSnapshotId: snapshot, MaxResults: PAGE, NextToken: next }
        return client.send(new sdk.ListChangedBlocksCommand(input), { abortSignal: signal })
      })
      const page = this.#parsed(changedSchema, answer, 'ListChangedBlocks')
      for (const { BlockIndex: index, SecondBlockToken: token } of page.ChangedBlocks)
        blocks.push({ index, ...(token !== undefined && { token }) })
      next = page.NextToken
      if (next === undefined) return blocks
    }
  }

  /** Its bytes, with the checksum that EBS gives them, base64: for the caller to compare. */
  async getBlock(
    snapshot: string,
    { index, token }: SnapshotBlock,
    signal: AbortSignal,
  ): Promise<{ data: Buffer; checksum: string }> {
    return this.#call('GetSnapshotBlock', snapshot, async ({ sdk, client }) => {
      const input = { SnapshotId: snapshot, BlockIndex: index, BlockToken: token }
      const answer = await client.send(new sdk.GetSnapshotBlockCommand(input), { abortSignal: signal })
      const bytes = await answer.BlockData?.transformToByteArray()
      if (bytes?.length !== BLOCK_BYTES || answer.ChecksumAlgorithm !== 'SHA256' || answer.Checksum === undefined)
        throw this.#unexpected('GetSnapshotBlock', `${bytes?.length} bytes, ${answer.ChecksumAlgorithm} ${answer.Checksum}`)
      return { data: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), checksum: answer.Checksum }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.close()
  }

  async #call<T>(action: string, subject: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.region)
      return await send(await this.#connection)
    } catch (error) {
      throw this.#error(error, action, subject)
    }
  }

  #error(error: unknown, action: string, subject: string): unknown {
    if (!(error instanceof Error) || error instanceof BakeError || error.name === 'AbortError') return error
    const ids = { action, region: this.region, subject }
    if (awsErrorName(error) === 'ResourceNotFoundException')
      return unavailable('ebs_missing', `${action} of ${subject} in ${this.region}: ${error.message}`, { ids, cause: error })
    // Of a put whose answer was lost, still under way.
    if ('Reason' in error && error.Reason === 'CONFLICTING_BLOCK_UPDATE')
      return unavailable('ebs_busy', `${action} of ${subject} in ${this.region}: ${error.message}`, { ids, cause: error })
    return ec2Error(error, { ...ids, service: 'ebs' })
  }

  #parsed<Schema extends z.ZodType>(schema: Schema, answer: unknown, action: string): z.infer<Schema> {
    const parsed = schema.safeParse(answer)
    if (!parsed.success) throw this.#unexpected(action, z.prettifyError(parsed.error))
    return parsed.data
  }

  #unexpected(action: string, what: string): BakeError {
    const ids = { action, region: this.region }
    return unavailable('ebs_answer', `${action} in ${this.region} answered what bake can't read: ${what}`, { ids })
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options, { Agent, request }] = await Promise.all([
    import('@aws-sdk/client-ebs'),
    awsOptions({ service: 'EBS', region }),
    import('node:https'),
  ])
  const client = new sdk.EBSClient(options)
  const endpoint = await endpointOf(sdk, client)
  const plain = endpoint.protocol === 'http:' ? await import('node:http') : undefined
  const settings = options.requestHandler.httpsAgent
  const agent = plain ? new plain.Agent(settings) : new Agent(settings)
  const place: PutPlace = {
    ...{ region, endpoint, agent, request: plain?.request ?? request },
    credentials: () => client.config.credentials(),
    clockOffsetMs: () => client.config.systemClockOffset,
  }
  return {
    ...{ sdk, client, place },
    close() {
      client.destroy()
      agent.destroy()
    },
  }
}

/** Where the SDK would send a call: it alone knows of FIPS, dual stack, partitions and what is configured. Nothing is sent. */
async function endpointOf(sdk: Sdk, client: EBSClient): Promise<URL> {
  let found: URL | undefined
  const command = new sdk.ListSnapshotBlocksCommand({ SnapshotId: 'snap-00000000' })
  command.middlewareStack.add(
    () => async (args) => {
      const { protocol, hostname, port } = args.request as { protocol: string; hostname: string; port?: number }
      found = new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`)
      return { output: { $metadata: {} }, response: {} }
    },
    { step: 'build', name: 'bakeEndpoint', priority: 'low' },
  )
  await client.send(command)
  if (found === undefined) throw new Error('the SDK names no endpoint')
  return found
}
