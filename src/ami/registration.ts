import { TAG } from '../aws-tags.ts'
import type { MachineDefinition } from '../config.ts'
import type { Ec2Tags } from '../io/ec2.ts'
import type { Ec2Image } from '../io/ec2-image.ts'
import type { MachinePlan } from './machine.ts'

/** What an AMI should be in one region, beside its content. */
export interface Registration {
  tags: Ec2Tags
  /** Account ids. */
  share: string[]
  /** ms since the epoch. */
  deprecateAt?: number
  protect: boolean
}

/** What is missing, in the order in which it is done: protected last, because a protected image can't be taken back. */
export type RegistrationStep =
  | { action: 'tag'; tags: Ec2Tags }
  | { action: 'require-imds-v2' }
  | { action: 'deprecate'; at: number }
  | { action: 'share'; accounts: string[] }
  | { action: 'protect' }

/** EC2 takes no time in the past, and its clock isn't this machine's. */
const SOONEST_MS = 5 * 60_000
/** EC2 rounds to minutes. */
const SAME_MS = 60_000

/** What bake.yaml asks for, for `image` or a copy of it. The user's tags don't replace bake's. */
export function registrationOf({ definition, project, inputs }: MachinePlan, image: Ec2Image): Registration {
  const { ami } = definition
  return {
    tags: {
      Name: image.name,
      ...ami.tags,
      [TAG.project]: project,
      [TAG.inputs]: inputs,
      [TAG.proven]: image.tags[TAG.proven] ?? 'false',
      ...(image.tags[TAG.run] !== undefined && { [TAG.run]: image.tags[TAG.run] }),
    },
    share: ami.shareWith,
    ...(ami.deprecateAfterSeconds !== undefined && { deprecateAt: image.createdAt + ami.deprecateAfterSeconds * 1000 }),
    protect: ami.protect,
  }
}

/** What has to be done to `image` to be as `wanted`; nothing when it is already. Pure. */
export function registrationSteps(
  wanted: Registration,
  { image, sharedWith }: { image: Ec2Image; sharedWith: string[] },
  now: number,
): RegistrationStep[] {
  const steps: RegistrationStep[] = []
  const tags = Object.fromEntries(Object.entries(wanted.tags).filter(([key, value]) => image.tags[key] !== value))
  if (Object.keys(tags).length > 0) steps.push({ action: 'tag', tags })
  if (!image.imdsV2) steps.push({ action: 'require-imds-v2' })
  const { deprecateAt: at } = wanted
  if (at !== undefined) {
    const before = image.deprecatedAt
    const isSo = before !== undefined && (Math.abs(before - at) < SAME_MS || Math.max(before, at) <= now + SOONEST_MS)
    if (!isSo) steps.push({ action: 'deprecate', at: Math.max(at, now + SOONEST_MS) })
  }
  const accounts = wanted.share.filter((account) => !sharedWith.includes(account))
  if (accounts.length > 0) steps.push({ action: 'share', accounts })
  if (wanted.protect && !image.protected) steps.push({ action: 'protect' })
  return steps
}

/** A key's name as it is in `region`; undefined: it is a key of one region only. https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id */
export function kmsKeyIn(key: string, region: string): string | undefined {
  if (/^(?:alias\/|mrk-)/.test(key)) return key
  const arn = /^(arn:[^:]+:kms:)[^:]+(:[^:]*:(?:alias\/.+|key\/mrk-.+))$/.exec(key)
  return arn === null ? undefined : `${arn[1]}${region}${arn[2]}`
}

/** Regions that get a copy of what is baked in `home`. */
export const copyRegions = ({ ami }: Pick<MachineDefinition, 'ami'>, home: string): string[] => [
  ...new Set(ami.regions.filter((region) => region !== home)),
]
