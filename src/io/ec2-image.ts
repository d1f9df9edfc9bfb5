import type { Image as SdkImage } from '@aws-sdk/client-ec2'
import { z } from 'zod'
import { unavailable } from '../errors.ts'
import { type Ec2Tags, tagsOf } from './ec2.ts'

/** An AMI as DescribeImages tells of it. */
export interface Ec2Image {
  id: string
  region: string
  name: string
  ownerId: string
  description?: string
  state: string
  /** Why it is `failed`, in EC2's words. */
  stateReason?: string
  /** ms since the epoch. */
  createdAt: number
  /** EC2's word: x86_64, arm64, i386, x86_64_mac, arm64_mac. */
  architecture: string
  /** `uefi`, `uefi-preferred` or `legacy-bios`; absent: the instance type's own. */
  bootMode?: string
  /** `ebs`, or `instance-store`, which can't be baked upon. */
  rootDeviceType: string
  rootDevice: string
  rootBytes: number
  /** Of the root volume; absent: it has none yet. */
  rootSnapshot?: string
  /** Of all of its volumes. */
  snapshots: string[]
  encrypted: boolean
  /** Of AWS Marketplace: whoever launches it subscribes to them. */
  productCodes: string[]
  /** `windows`, or absent. */
  platform?: string
  /** What an instance of it is billed as: `Linux/UNIX` and `RunInstances` unless a licence is paid for by the hour. */
  billing: { platform: string; operation: string }
  /** What RegisterImage is told of a machine, beside architecture and boot mode, in its own words. */
  hardware: { virtualization: string; ena: boolean; sriov?: string; tpm?: string }
  /** ms since the epoch. */
  deprecatedAt?: number
  /** Instances need IMDSv2 unless told otherwise. */
  imdsV2: boolean
  protected: boolean
  public: boolean
  tags: Ec2Tags
}

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html, as far as bake reads it. */
const time = z.string().transform((text, context) => {
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) context.addIssue({ code: 'custom', message: 'is no time' })
  return ms
})
const imageSchema = z.object({
  ImageId: z.string().regex(/^ami-[0-9a-z]+$/),
  Name: z.string().default(''),
  OwnerId: z.string(),
  Description: z.string().optional(),
  State: z.string(),
  StateReason: z.object({ Message: z.string().optional() }).optional(),
  CreationDate: time,
  Architecture: z.string(),
  BootMode: z.string().optional(),
  RootDeviceType: z.string().default('ebs'),
  RootDeviceName: z.string().default(''),
  BlockDeviceMappings: z
    .array(
      z.object({
        DeviceName: z.string(),
        Ebs: z
          .object({
            SnapshotId: z.string().optional(),
            VolumeSize: z.number().optional(),
            Encrypted: z.boolean().optional(),
          })
          .optional(),
      }),
    )
    .default([]),
  ProductCodes: z.array(z.object({ ProductCodeId: z.string() })).default([]),
  Platform: z.string().optional(),
  PlatformDetails: z.string().default('Linux/UNIX'),
  UsageOperation: z.string().default('RunInstances'),
  VirtualizationType: z.string().default('hvm'),
  EnaSupport: z.boolean().default(false),
  SriovNetSupport: z.string().optional(),
  TpmSupport: z.string().optional(),
  DeprecationTime: time.optional(),
  ImdsSupport: z.string().optional(),
  DeregistrationProtection: z.string().optional(),
  Public: z.boolean().default(false),
  Tags: z.array(z.object({ Key: z.string(), Value: z.string() })).default([]),
})

/** A volume's size comes in GiB. */
const GIB = 2 ** 30

/** Throws ec2_answer (exit 4) when DescribeImages answers what its document doesn't say. */
export function parseImage(raw: SdkImage, region: string): Ec2Image {
  const parsed = imageSchema.safeParse(raw)
  if (!parsed.success) throw unexpected(raw, region, parsed.error)
  const image = parsed.data
  const disks = image.BlockDeviceMappings.flatMap(({ DeviceName, Ebs }) => (Ebs === undefined ? [] : [{ DeviceName, ...Ebs }]))
  const root = disks.find(({ DeviceName }) => DeviceName === image.RootDeviceName)
  return {
    id: image.ImageId,
    region,
    name: image.Name,
    ownerId: image.OwnerId,
    ...(image.Description && { description: image.Description }),
    state: image.State,
    ...(image.StateReason?.Message && { stateReason: image.StateReason.Message }),
    createdAt: image.CreationDate,
    architecture: image.Architecture,
    ...(image.BootMode && { bootMode: image.BootMode }),
    rootDeviceType: image.RootDeviceType,
    rootDevice: image.RootDeviceName,
    rootBytes: (root?.VolumeSize ?? 0) * GIB,
    ...(root?.SnapshotId && { rootSnapshot: root.SnapshotId }),
    snapshots: disks.flatMap(({ SnapshotId }) => SnapshotId || []),
    encrypted: disks.length > 0 && disks.every(({ Encrypted }) => Encrypted === true),
    productCodes: image.ProductCodes.map(({ ProductCodeId }) => ProductCodeId),
    ...(image.Platform && { platform: image.Platform.toLowerCase() }),
    billing: { platform: image.PlatformDetails, operation: image.UsageOperation },
    hardware: {
      ...{ virtualization: image.VirtualizationType, ena: image.EnaSupport },
      ...(image.SriovNetSupport && { sriov: image.SriovNetSupport }),
      ...(image.TpmSupport && { tpm: image.TpmSupport }),
    },
    ...(image.DeprecationTime !== undefined && { deprecatedAt: image.DeprecationTime }),
    imdsV2: image.ImdsSupport === 'v2.0',
    // `enabled-with-cooldown`, `enabled-without-cooldown`, `disabled`; for a day after a cooldown began, the time of its end.
    protected: image.DeregistrationProtection !== undefined && image.DeregistrationProtection !== 'disabled',
    public: image.Public,
    tags: tagsOf(image.Tags),
  }
}

const unexpected = (raw: SdkImage, region: string, cause: z.ZodError) =>
  unavailable(
    'ec2_answer',
    `DescribeImages answered what bake can't read of ${raw.ImageId ?? 'an image'} in ${region}: ${z.prettifyError(cause)}`,
    {
      ids: { image: raw.ImageId ?? '', region },
      cause,
    },
  )
