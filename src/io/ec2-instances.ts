import type { _InstanceType, Instance, InstanceTypeInfo } from '@aws-sdk/client-ec2'
import { type Ec2, type Ec2Tags, pages, tagFilters, tagSpecifications, tagsOf } from './ec2.ts'
import { ec2ErrorName } from './ec2-errors.ts'

/** An instance to start. Nothing of it outlives it: its volume goes with it, and when it powers itself off it terminates. */
export interface InstanceRequest {
  imageId: string
  /** The image's, so that its volume goes with the instance whatever the image says. */
  rootDevice: string
  type: string
  subnet: string
  group: string
  userData: Buffer
  /** Of a second volume, which goes with the instance too. */
  dataSnapshot?: string
  httpTokens: 'optional' | 'required'
  hopLimit: number
  tags: Ec2Tags
  /** The same token starts no second instance. */
  token: string
}

export interface RunningInstance {
  id: string
  /** `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped` */
  state: string
  /** Why it stopped, in EC2's words. */
  reason?: string
  imageId: string
  /** EC2's word: x86_64, arm64, i386. */
  architecture: string
  /** ms since the epoch */
  startedAt: number
  tags: Ec2Tags
}

export interface InstanceType {
  name: string
  /** EC2's words: x86_64, arm64, i386. */
  architectures: string[]
  /** `uefi`, `legacy-bios` */
  bootModes: string[]
}

const MISSING = new Set(['InvalidInstanceID.NotFound', 'InvalidInstanceID.Malformed'])
const NO_TYPE = new Set(['InvalidInstanceType'])
/** The newest output can be had of Nitro types only: others are asked for what was posted when their state changed. */
const NOT_LATEST = new Set(['UnsupportedOperation', 'InvalidParameterValue', 'Unsupported', 'InvalidParameterCombination'])
const PAGE = 1_000
/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html; the machine may see it by another name. */
const DATA_DEVICE = '/dev/sdf'

/** The instances of one region. Errors: see ec2-errors.ts. */
export class Ec2Instances {
  readonly #ec2: Ec2

  constructor(ec2: Ec2) {
    this.#ec2 = ec2
  }

  get region(): string {
    return this.#ec2.region
  }

  /** Its id. */
  async run(request: InstanceRequest): Promise<string> {
    const { Instances } = await this.#run(request, false)
    return Instances![0]!.InstanceId!
  }

  /** Starts nothing: throws what EC2 has against it (ec2_denied, …). */
  async mayRun(request: InstanceRequest): Promise<void> {
    await this.#run(request, true).catch((error: unknown) => {
      if (ec2ErrorName(error) !== 'DryRunOperation') throw error
    })
  }

  /** Whether one may be started in the default VPC, as Packer does. Starts nothing: throws what EC2 has against it (ec2_denied, …). */
  async mayBuild({ imageId, type, tags }: Pick<InstanceRequest, 'imageId' | 'type' | 'tags'>): Promise<void> {
    const about = { action: 'RunInstances', subject: `${type} with ${imageId}`, also: ['ec2:CreateTags'] }
    const launch = { ImageId: imageId, InstanceType: type as _InstanceType, MinCount: 1, MaxCount: 1 }
    const TagSpecifications = tagSpecifications(['instance', 'volume'], tags)
    await this.#ec2
      .call(about, ({ sdk, client }) => client.send(new sdk.RunInstancesCommand({ ...launch, TagSpecifications, DryRun: true })))
      .catch((error: unknown) => {
        if (ec2ErrorName(error) !== 'DryRunOperation') throw error
      })
  }

  #run(request: InstanceRequest, dryRun: boolean) {
    const { imageId, type, subnet, group, tags } = request
    const about = { action: 'RunInstances', subject: `${type} with ${imageId}`, also: ['ec2:CreateTags'] }
    return this.#ec2.call(about, ({ sdk, client }) =>
      client.send(
        new sdk.RunInstancesCommand({
          DryRun: dryRun,
          ImageId: imageId,
          InstanceType: type as _InstanceType,
          MinCount: 1,
          MaxCount: 1,
          NetworkInterfaces: [
            { DeviceIndex: 0, SubnetId: subnet, Groups: [group], AssociatePublicIpAddress: false, DeleteOnTermination: true },
          ],
          BlockDeviceMappings: [
            { DeviceName: request.rootDevice, Ebs: { DeleteOnTermination: true } },
            ...(request.dataSnapshot === undefined
              ? []
              : [{ DeviceName: DATA_DEVICE, Ebs: { SnapshotId: request.dataSnapshot, DeleteOnTermination: true } }]),
          ],
          UserData: request.userData.toString('base64'),
          InstanceInitiatedShutdownBehavior: 'terminate',
          MetadataOptions: { HttpTokens: request.httpTokens, HttpPutResponseHopLimit: request.hopLimit },
          TagSpecifications: tagSpecifications(['instance', 'volume', 'network-interface'], tags),
          ClientToken: request.token,
        }),
      ),
    )
  }

  /** Undefined when there is none, or none yet by the server that answers. */
  async get(id: string): Promise<RunningInstance | undefined> {
    const request = { action: 'DescribeInstances', subject: id }
    const found = await this.#ec2.optional(MISSING, request, async ({ sdk, client }) => {
      const { Reservations = [] } = await client.send(new sdk.DescribeInstancesCommand({ InstanceIds: [id] }))
      return Reservations[0]?.Instances?.[0]
    })
    return found && instanceOf(found)
  }

  async tagged(tags: Ec2Tags): Promise<RunningInstance[]> {
    return this.#list(Object.values(tags).join(' '), tagFilters(tags))
  }

  /** Those that fit every filter, by EC2's names: `tag:stack`, `instance-id`. */
  async matching(filters: Record<string, string[]>): Promise<RunningInstance[]> {
    const Filters = Object.entries(filters).map(([Name, Values]) => ({ Name, Values }))
    return await this.#list(Object.values(filters).flat().join(' '), Filters)
  }

  /** All that were started from the image and aren't terminated. */
  async ofImage(imageId: string): Promise<RunningInstance[]> {
    const found = await this.#list(imageId, [{ Name: 'image-id', Values: [imageId] }])
    return found.filter(({ state }) => state !== 'terminated')
  }

  /** What it has written to its console, 64 KiB at most; '' when there is nothing yet. */
  async console(id: string): Promise<string> {
    const request = { action: 'GetConsoleOutput', subject: id }
    const read = (Latest: boolean) =>
      this.#ec2.optional(Latest ? new Set([...NOT_LATEST, ...MISSING]) : MISSING, request, async ({ sdk, client }) => {
        const { Output = '' } = await client.send(new sdk.GetConsoleOutputCommand({ InstanceId: id, ...(Latest && { Latest }) }))
        return Buffer.from(Output, 'base64').toString('utf8')
      })
    return (await read(true)) || (await read(false)) || ''
  }

  /** Those that are gone already are no error. */
  async terminate(ids: string[]): Promise<void> {
    for (const id of ids)
      await this.#ec2.optional(MISSING, { action: 'TerminateInstances', subject: id }, ({ sdk, client }) =>
        client.send(new sdk.TerminateInstancesCommand({ InstanceIds: [id] })),
      )
  }

  /** Those that run and pass both of EC2's status checks: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceStatus.html */
  async passing(ids: string[]): Promise<Set<string>> {
    const Filters = [
      { Name: 'instance-status.status', Values: ['ok'] },
      { Name: 'system-status.status', Values: ['ok'] },
    ]
    const found = await this.#ec2.call({ action: 'DescribeInstanceStatus', subject: ids.join(', ') }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeInstanceStatusCommand({ Filters, MaxResults: PAGE, NextToken }))
        return { items: answer.InstanceStatuses ?? [], next: answer.NextToken }
      }),
    )
    return new Set(found.flatMap(({ InstanceId = '' }) => (ids.includes(InstanceId) ? [InstanceId] : [])))
  }

  /** EC2's word, as RunningInstance has it; undefined when it knows no such instance, or none yet. Asks for no permission that `passing` doesn't. */
  async state(id: string): Promise<string | undefined> {
    const request = { action: 'DescribeInstanceStatus', subject: id }
    const found = await this.#ec2.optional(MISSING, request, ({ sdk, client }) =>
      client.send(new sdk.DescribeInstanceStatusCommand({ InstanceIds: [id], IncludeAllInstances: true })),
    )
    return found?.InstanceStatuses?.[0]?.InstanceState?.Name
  }

  /** Undefined when EC2 knows no such type in this region. */
  async type(name: string): Promise<InstanceType | undefined> {
    const request = { action: 'DescribeInstanceTypes', subject: name }
    const found = await this.#ec2.optional(NO_TYPE, request, async ({ sdk, client }) => {
      const { InstanceTypes = [] } = await client.send(
        new sdk.DescribeInstanceTypesCommand({ InstanceTypes: [name as _InstanceType] }),
      )
      return InstanceTypes[0]
    })
    return found && typeOf(found)
  }

  async #list(subject: string, Filters: { Name: string; Values: string[] }[] | ReturnType<typeof tagFilters>) {
    const found = await this.#ec2.call({ action: 'DescribeInstances', subject }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeInstancesCommand({ Filters, MaxResults: PAGE, NextToken }))
        return { items: (answer.Reservations ?? []).flatMap(({ Instances = [] }) => Instances), next: answer.NextToken }
      }),
    )
    return found.map(instanceOf)
  }
}

const instanceOf = ({ InstanceId, State, StateReason, ImageId, Architecture, LaunchTime, Tags }: Instance): RunningInstance => ({
  id: InstanceId!,
  state: State?.Name ?? 'pending',
  ...(StateReason?.Message && { reason: StateReason.Message }),
  imageId: ImageId ?? '',
  architecture: Architecture ?? '',
  startedAt: LaunchTime?.getTime() ?? 0,
  tags: tagsOf(Tags),
})

const typeOf = ({ InstanceType: name, ProcessorInfo, SupportedBootModes }: InstanceTypeInfo): InstanceType => ({
  name: name!,
  architectures: ProcessorInfo?.SupportedArchitectures ?? [],
  bootModes: SupportedBootModes ?? [],
})
