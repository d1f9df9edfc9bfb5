import { z } from 'zod'
import { failed, unavailable } from '../errors.ts'
import { waitFor } from '../wait.ts'
import { type Ec2, type Ec2Tags, tagsOf } from './ec2.ts'

/** A snapshot as DescribeSnapshots tells of it. */
export interface Ec2Snapshot {
  id: string
  region: string
  /** `pending`, `completed`, `error`, `recoverable`, `recovering` */
  state: string
  stateMessage?: string
  volumeBytes: number
  encrypted: boolean
  /** ARN. */
  kmsKey?: string
  tags: Ec2Tags
}

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html, as far as bake reads it. */
const snapshotSchema = z.object({
  SnapshotId: z.string().regex(/^snap-[0-9a-f]+$/),
  State: z.string(),
  StateMessage: z.string().optional(),
  VolumeSize: z.number().int().min(0),
  Encrypted: z.boolean().default(false),
  KmsKeyId: z.string().optional(),
  Tags: z.array(z.object({ Key: z.string(), Value: z.string() })).default([]),
})
const GIB = 2 ** 30
const MISSING = new Set(['InvalidSnapshot.NotFound', 'InvalidSnapshotID.Malformed'])
const POLL_MS = 500
/** EBS seals some thousand blocks within seconds. */
const COMPLETED_WITHIN_MS = 30 * 60_000

/** This account's own snapshots in one region. Errors: see ec2-errors.ts; ec2_answer. */
export class Ec2Snapshots {
  readonly #ec2: Ec2
  readonly #pollMs: number

  constructor(ec2: Ec2, options: { pollMs?: number } = {}) {
    this.#ec2 = ec2
    this.#pollMs = options.pollMs ?? POLL_MS
  }

  /** Undefined: there is none, or not yet, or it is another account's. */
  async get(id: string): Promise<Ec2Snapshot | undefined> {
    const request = { action: 'DescribeSnapshots', subject: id }
    const found = await this.#ec2.optional(MISSING, request, async ({ sdk, client }) => {
      const { Snapshots = [] } = await client.send(new sdk.DescribeSnapshotsCommand({ SnapshotIds: [id], OwnerIds: ['self'] }))
      return Snapshots[0]
    })
    return found && this.#parsed(found, id)
  }

  /** Throws snapshot_failed (exit 3) with EBS's reason, timed_out (exit 5). */
  async waitCompleted(id: string, signal: AbortSignal): Promise<Ec2Snapshot> {
    const probe = async () => {
      const snapshot = await this.get(id)
      if (snapshot?.state === 'error') throw spoiled(snapshot)
      return snapshot?.state === 'completed' ? snapshot : undefined
    }
    const what = `${id} in ${this.#ec2.region} to be completed`
    return waitFor(probe, { what, deadlineMs: COMPLETED_WITHIN_MS, intervalMs: this.#pollMs, signal })
  }

  /** Whatever its state is. What is gone already is no error; what an AMI needs is (ec2_refused). */
  async remove(id: string): Promise<void> {
    await this.#ec2.optional(MISSING, { action: 'DeleteSnapshot', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.DeleteSnapshotCommand({ SnapshotId: id })),
    )
  }

  /** Whether all that is made in this region is encrypted: https://docs.aws.amazon.com/ebs/latest/userguide/encryption-by-default.html */
  async encryptedByDefault(): Promise<boolean> {
    const request = { action: 'GetEbsEncryptionByDefault', subject: 'the account' }
    const { EbsEncryptionByDefault } = await this.#ec2.call(request, ({ sdk, client }) =>
      client.send(new sdk.GetEbsEncryptionByDefaultCommand({})),
    )
    return EbsEncryptionByDefault === true
  }

  #parsed(raw: object, id: string): Ec2Snapshot {
    const parsed = snapshotSchema.safeParse(raw)
    const region = this.#ec2.region
    if (!parsed.success)
      throw unavailable(
        'ec2_answer',
        `DescribeSnapshots answered what bake can't read of ${id} in ${region}: ${z.prettifyError(parsed.error)}`,
        {
          ids: { snapshot: id, region },
          cause: parsed.error,
        },
      )
    const { SnapshotId, State, StateMessage, VolumeSize, Encrypted, KmsKeyId, Tags } = parsed.data
    return {
      ...{ id: SnapshotId, region, state: State, volumeBytes: VolumeSize * GIB, encrypted: Encrypted, tags: tagsOf(Tags) },
      ...(StateMessage && { stateMessage: StateMessage }),
      ...(KmsKeyId && { kmsKey: KmsKeyId }),
    }
  }
}

const spoiled = ({ id, region, stateMessage }: Ec2Snapshot) =>
  failed('snapshot_failed', `${id} in ${region} failed${stateMessage ? `: ${stateMessage}` : ''}`, {
    ids: { snapshot: id, region },
    next: 'bake again; when it is encrypted: the key must be there, and these credentials may use it',
  })
