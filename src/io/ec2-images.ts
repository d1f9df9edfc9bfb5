import type { DescribeImagesCommandInput } from '@aws-sdk/client-ec2'
import { failed } from '../errors.ts'
import { waitFor } from '../wait.ts'
import { type Ec2, type Ec2Tags, pages, tagFilters, tagList, tagSpecifications } from './ec2.ts'
import { ec2ErrorName } from './ec2-errors.ts'
import { type Ec2Image, parseImage } from './ec2-image.ts'
import { type NewImage, registerImage } from './ec2-register.ts'

/** By id, or the newest of an owner's whose names match (`*`: any characters). */
export type ImageQuery = { id: string } | { owner: string; name: string }

export interface ImageCopy {
  sourceRegion: string
  sourceId: string
  name: string
  description: string
  /** Of the region of the copy. */
  kmsKey?: string
  tags: Ec2Tags
  /** The same token makes the same copy, whoever asks again. */
  token: string
}

const PAGE = 1_000
const MISSING = new Set(['InvalidAMIID.NotFound', 'InvalidAMIID.Unavailable', 'InvalidAMIID.Malformed'])
const NO_SNAPSHOT = new Set(['InvalidSnapshot.NotFound'])
/** An image that was just made may be told of by one server and not by the next. */
const SUCCESSES = 3
const POLL_MS = 2_000
/** Of some hundred GB to another continent. */
const AVAILABLE_WITHIN_MS = 2 * 3_600_000
/** What a state that is no longer `pending` or `available` may be: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html */
const ENDED = new Set(['invalid', 'deregistered', 'failed', 'error', 'disabled'])

/** The AMIs of one region. Errors: see ec2-errors.ts; ec2_answer. */
export class Ec2Images {
  readonly #ec2: Ec2
  readonly #pollMs: number

  constructor(ec2: Ec2, options: { pollMs?: number } = {}) {
    this.#ec2 = ec2
    this.#pollMs = options.pollMs ?? POLL_MS
  }

  get region(): string {
    return this.#ec2.region
  }

  /** Whatever the query names that can be launched, newest first. By id it may be deprecated, by name not. `architecture`: EC2's word. */
  async find(query: ImageQuery, architecture?: string): Promise<Ec2Image[]> {
    if ('id' in query) return [await this.get(query.id)].filter((image) => image !== undefined)
    const filters = { name: query.name, state: 'available', ...(architecture && { architecture }) }
    return this.#describe(`${query.owner}/${query.name}`, {
      Owners: [query.owner],
      Filters: Object.entries(filters).map(([Name, value]) => ({ Name, Values: [value] })),
    })
  }

  async get(id: string): Promise<Ec2Image | undefined> {
    const request = { action: 'DescribeImages', subject: id }
    const found = await this.#ec2.optional(MISSING, request, async ({ sdk, client }) => {
      const { Images = [] } = await client.send(new sdk.DescribeImagesCommand({ ImageIds: [id], IncludeDeprecated: true }))
      return Images[0]
    })
    return found && parseImage(found, this.region)
  }

  /** This account's own that carry the tags, in whatever state, newest first. */
  async tagged(tags: Ec2Tags): Promise<Ec2Image[]> {
    return this.#describe(Object.values(tags).join(' '), { Owners: ['self'], Filters: tagFilters(tags), IncludeDeprecated: true })
  }

  /** This account's own whose names match, in whatever state, newest first. */
  async named(pattern: string): Promise<Ec2Image[]> {
    return this.#describe(pattern, { Owners: ['self'], Filters: [{ Name: 'name', Values: [pattern] }], IncludeDeprecated: true })
  }

  /** Waits until it is `available`, three looks in a row. Throws ami_failed (exit 3) with EC2's reason, timed_out (exit 5). */
  async waitAvailable(id: string, signal: AbortSignal): Promise<Ec2Image> {
    const probe = async () => {
      const image = await this.get(id)
      if (image !== undefined && ENDED.has(image.state)) throw ended(image)
      return image?.state === 'available' ? image : undefined
    }
    return waitFor(probe, {
      what: `${id} in ${this.region} to be available`,
      deadlineMs: AVAILABLE_WITHIN_MS,
      intervalMs: this.#pollMs,
      successes: SUCCESSES,
      signal,
    })
  }

  async tag(ids: string[], tags: Ec2Tags): Promise<void> {
    await this.#ec2.call({ action: 'CreateTags', subject: ids.join(', ') }, ({ sdk, client }) =>
      client.send(new sdk.CreateTagsCommand({ Resources: ids, Tags: tagList(tags) })),
    )
  }

  /** Account ids, organizations' ARNs, or `all`, that may launch it. */
  async sharedWith(id: string): Promise<string[]> {
    const request = { action: 'DescribeImageAttribute', subject: id }
    const answer = await this.#ec2.call(request, ({ sdk, client }) =>
      client.send(new sdk.DescribeImageAttributeCommand({ ImageId: id, Attribute: 'launchPermission' })),
    )
    return (answer.LaunchPermissions ?? []).flatMap(
      ({ UserId, Group, OrganizationArn, OrganizationalUnitArn }) =>
        UserId ?? Group ?? OrganizationArn ?? OrganizationalUnitArn ?? [],
    )
  }

  async share(id: string, accounts: string[]): Promise<void> {
    const LaunchPermission = { Add: accounts.map((UserId) => ({ UserId })) }
    await this.#modify(id, { LaunchPermission })
  }

  async requireImdsV2(id: string): Promise<void> {
    await this.#modify(id, { ImdsSupport: { Value: 'v2.0' } })
  }

  /** `at`: ms since the epoch, in the future; EC2 rounds to minutes. */
  async deprecate(id: string, at: number): Promise<void> {
    await this.#ec2.call({ action: 'EnableImageDeprecation', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.EnableImageDeprecationCommand({ ImageId: id, DeprecateAt: new Date(at) })),
    )
  }

  /** Without a cooldown: it can be deregistered at once after the protection was taken off. */
  async protect(id: string): Promise<void> {
    await this.#ec2.call({ action: 'EnableImageDeregistrationProtection', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.EnableImageDeregistrationProtectionCommand({ ImageId: id, WithCooldown: false })),
    )
  }

  async unprotect(id: string): Promise<void> {
    await this.#ec2.call({ action: 'DisableImageDeregistrationProtection', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.DisableImageDeregistrationProtectionCommand({ ImageId: id })),
    )
  }

  /** Begins a copy into this region; its id. */
  async copy(copy: ImageCopy): Promise<string> {
    const { ImageId } = await this.#copy(copy, false)
    return ImageId!
  }

  /** Copies nothing: throws what EC2 has against it (ec2_denied, …). */
  async mayCopy({ id, region, name }: Pick<Ec2Image, 'id' | 'region' | 'name'>, tags: Ec2Tags): Promise<void> {
    const copy = { sourceRegion: region, sourceId: id, name, description: name, tags, token: 'check' }
    await this.#copy(copy, true).catch((error: unknown) => {
      if (ec2ErrorName(error) !== 'DryRunOperation') throw error
    })
  }

  #copy({ sourceRegion, sourceId, name, description, kmsKey, tags, token }: ImageCopy, DryRun: boolean) {
    const request = { action: 'CopyImage', subject: `${sourceId} of ${sourceRegion}`, also: ['ec2:CreateTags'] }
    return this.#ec2.call(request, ({ sdk, client }) =>
      client.send(
        new sdk.CopyImageCommand({
          DryRun,
          SourceRegion: sourceRegion,
          SourceImageId: sourceId,
          Name: name,
          Description: description,
          ...(kmsKey !== undefined && { Encrypted: true, KmsKeyId: kmsKey }),
          TagSpecifications: tagSpecifications(['image', 'snapshot'], tags),
          ClientToken: token,
        }),
      ),
    )
  }

  /**
   * An image that requires IMDSv2; its id. A name belongs to one image of a region, so a second call with the same name gives the first one's: an answer that was
   * lost costs nothing.
   */
  async register(image: NewImage): Promise<string> {
    try {
      return (await registerImage(this.#ec2, image)).ImageId!
    } catch (error) {
      const same = ec2ErrorName(error) === 'InvalidAMIName.Duplicate' ? await this.named(image.name) : []
      const there = same.find(({ snapshots }) => snapshots.includes(image.snapshot))
      if (there === undefined) throw error
      return there.id
    }
  }

  /** Registers nothing: throws what EC2 has against it (ec2_denied, …). */
  async mayRegister(image: NewImage): Promise<void> {
    await registerImage(this.#ec2, image, { DryRun: true }).catch((error: unknown) => {
      if (ec2ErrorName(error) !== 'DryRunOperation') throw error
    })
  }

  /** Deregisters it and deletes its snapshots. What is gone already is no error. */
  async remove({ id, snapshots }: Pick<Ec2Image, 'id' | 'snapshots'>): Promise<void> {
    await this.#ec2.optional(MISSING, { action: 'DeregisterImage', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.DeregisterImageCommand({ ImageId: id })),
    )
    for (const SnapshotId of snapshots)
      await this.#ec2.optional(NO_SNAPSHOT, { action: 'DeleteSnapshot', subject: SnapshotId }, ({ sdk, client }) =>
        client.send(new sdk.DeleteSnapshotCommand({ SnapshotId })),
      )
  }

  async #modify(id: string, change: object): Promise<void> {
    await this.#ec2.call({ action: 'ModifyImageAttribute', subject: id }, ({ sdk, client }) =>
      client.send(new sdk.ModifyImageAttributeCommand({ ImageId: id, ...change })),
    )
  }

  async #describe(subject: string, input: DescribeImagesCommandInput): Promise<Ec2Image[]> {
    const images = await this.#ec2.call({ action: 'DescribeImages', subject }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeImagesCommand({ ...input, MaxResults: PAGE, NextToken }))
        return { items: answer.Images ?? [], next: answer.NextToken }
      }),
    )
    return images.map((image) => parseImage(image, this.region)).sort((a, b) => b.createdAt - a.createdAt)
  }
}

const ended = ({ id, region, state, stateReason }: Ec2Image) =>
  failed('ami_failed', `${id} in ${region} is ${state}${stateReason ? `: ${stateReason}` : ''}`, {
    ids: { ami: id, region },
    next: 'when it is a copy with a KMS key: the key must be in that region, and these credentials may use it',
  })
