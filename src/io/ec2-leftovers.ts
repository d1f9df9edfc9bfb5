import type { Filter } from '@aws-sdk/client-ec2'
import { type Ec2, type Ec2Tags, pages, tagFilters, tagsOf } from './ec2.ts'

/** Something that a run made beside its image and its instance. */
export interface Leftover {
  kind: 'snapshot' | 'volume' | 'key-pair' | 'security-group'
  id: string
  tags: Ec2Tags
  /** Something uses it: a snapshot's AMI isn't told here, a volume's instance is. */
  inUse: boolean
}

const PAGE = 1_000
const GONE = new Set([
  'InvalidSnapshot.NotFound',
  'InvalidVolume.NotFound',
  'InvalidKeyPair.NotFound',
  'InvalidGroup.NotFound',
  'InvalidGroupId.NotFound',
])

/** Snapshots, volumes, key pairs and security groups of one region, by their tags. Errors: see ec2-errors.ts. */
export class Ec2Leftovers {
  readonly #ec2: Ec2

  constructor(ec2: Ec2) {
    this.#ec2 = ec2
  }

  async tagged(tags: Ec2Tags): Promise<Leftover[]> {
    const filters = tagFilters(tags)
    const subject = Object.values(tags).join(' ')
    const found = await Promise.all([
      this.#snapshots(subject, filters),
      this.#volumes(subject, filters),
      this.#keyPairs(subject, filters),
      this.#groups(subject, filters),
    ])
    return found.flat()
  }

  /** What is gone already is no error; what is in use is (ec2_refused). */
  async remove({ kind, id }: Pick<Leftover, 'kind' | 'id'>): Promise<void> {
    const at = (action: string) => ({ action, subject: id })
    if (kind === 'snapshot')
      await this.#ec2.optional(GONE, at('DeleteSnapshot'), ({ sdk, client }) =>
        client.send(new sdk.DeleteSnapshotCommand({ SnapshotId: id })),
      )
    if (kind === 'volume')
      await this.#ec2.optional(GONE, at('DeleteVolume'), ({ sdk, client }) =>
        client.send(new sdk.DeleteVolumeCommand({ VolumeId: id })),
      )
    if (kind === 'key-pair')
      await this.#ec2.optional(GONE, at('DeleteKeyPair'), ({ sdk, client }) =>
        client.send(new sdk.DeleteKeyPairCommand({ KeyName: id })),
      )
    if (kind === 'security-group')
      await this.#ec2.optional(GONE, at('DeleteSecurityGroup'), ({ sdk, client }) =>
        client.send(new sdk.DeleteSecurityGroupCommand({ GroupId: id })),
      )
  }

  #snapshots(subject: string, Filters: Filter[]): Promise<Leftover[]> {
    return this.#ec2.call({ action: 'DescribeSnapshots', subject }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const input = { OwnerIds: ['self'], Filters, MaxResults: PAGE, NextToken }
        const answer = await client.send(new sdk.DescribeSnapshotsCommand(input))
        const items = (answer.Snapshots ?? []).map(({ SnapshotId, Tags }) => leftover('snapshot', SnapshotId, Tags))
        return { items, next: answer.NextToken }
      }),
    )
  }

  #volumes(subject: string, Filters: Filter[]): Promise<Leftover[]> {
    return this.#ec2.call({ action: 'DescribeVolumes', subject }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeVolumesCommand({ Filters, MaxResults: PAGE, NextToken }))
        const items = (answer.Volumes ?? []).map(({ VolumeId, Tags, State }) =>
          leftover('volume', VolumeId, Tags, State !== 'available'),
        )
        return { items, next: answer.NextToken }
      }),
    )
  }

  /** Named, not by id: that's what their deletion takes everywhere. */
  #keyPairs(subject: string, Filters: Filter[]): Promise<Leftover[]> {
    return this.#ec2.call({ action: 'DescribeKeyPairs', subject }, async ({ sdk, client }) => {
      const { KeyPairs = [] } = await client.send(new sdk.DescribeKeyPairsCommand({ Filters }))
      return KeyPairs.map(({ KeyName, Tags }) => leftover('key-pair', KeyName, Tags))
    })
  }

  #groups(subject: string, Filters: Filter[]): Promise<Leftover[]> {
    return this.#ec2.call({ action: 'DescribeSecurityGroups', subject }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeSecurityGroupsCommand({ Filters, MaxResults: PAGE, NextToken }))
        const items = (answer.SecurityGroups ?? []).map(({ GroupId, Tags }) => leftover('security-group', GroupId, Tags))
        return { items, next: answer.NextToken }
      }),
    )
  }
}

type SdkTags = { Key?: string | undefined; Value?: string | undefined }[] | undefined

const leftover = (kind: Leftover['kind'], id: string | undefined, tags: SdkTags, inUse = false): Leftover => ({
  kind,
  id: id!,
  tags: tagsOf(tags),
  inUse,
})
