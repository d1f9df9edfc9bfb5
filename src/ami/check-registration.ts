import { RESERVED_TAGS } from '../aws-tags.ts'
import type { MachineDefinition } from '../config.ts'
import { type BakeError, refused } from '../errors.ts'
import type { Baker } from './machine.ts'
import { copyRegions, kmsKeyIn } from './registration.ts'

/** EC2's limits: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions; some keys are bake's. */
const MAX_TAGS = 40
const MAX_KEY = 128
const MAX_VALUE = 256
const DAY_SECONDS = 86_400
/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html: 10 years, the shortest of them. */
const MAX_DEPRECATION_SECONDS = 3_652 * DAY_SECONDS
/** AWS's own key of an account, which no other account can use. */
const AWS_KEY = /(?:^|:)alias\/aws\//
/** https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html */
const BOOTABLE = new Set(['gp2', 'gp3', 'io1', 'io2', 'standard'])
const WITH_IOPS = new Set(['gp3', 'io1', 'io2'])

/** Options of `machine.ami` that can't be had, found before anything is paid for. Throws bad_ami_options (exit 2), all of them at once. */
export function checkRegistration({ ami }: MachineDefinition, home: string, baker: Baker['name']): void {
  const faults = [
    ...bootModeFaults(ami, baker),
    ...regionFaults(ami, home),
    ...keyFaults(ami, home),
    ...volumeFaults(ami.volume),
    ...tagFaults(ami.tags),
  ]
  if ((ami.deprecateAfterSeconds ?? 0) > MAX_DEPRECATION_SECONDS) faults.push('deprecate_after is more than EC2’s 10 years')
  if (faults.length > 0) throw badOptions(faults)
}

const badOptions = (faults: string[]): BakeError =>
  refused('bad_ami_options', `machine.ami: ${faults.join('; ')}`, {
    next: 'correct machine.ami in bake.yaml (docs/bake-yaml.md)',
  })

type Ami = MachineDefinition['ami']

/** CreateImage, which Packer's amazon-ebs calls, takes the base's; only RegisterImage can set another. */
const bootModeFaults = ({ bootMode }: Ami, baker: Baker['name']): string[] =>
  bootMode !== undefined && baker === 'packer'
    ? [
        `boot_mode ${bootMode} can't be set with Packer's builder, which takes the base's: leave it out, or choose a base that boots so`,
      ]
    : []

function regionFaults(ami: Ami, home: string): string[] {
  const elsewhere = copyRegions({ ami }, home).filter((region) => partition(region) !== partition(home))
  return elsewhere.map((region) => `regions: nothing can be copied from ${home} to ${region}, another partition of AWS`)
}

const partition = (region: string): string => /^(?:cn|us-gov|us-iso[a-z]*)(?=-)/.exec(region)?.[0] ?? 'aws'

function keyFaults(ami: Ami, home: string): string[] {
  const { kmsKey: key } = ami
  if (key === undefined) return []
  const faults: string[] = []
  const without = copyRegions({ ami }, home).filter((region) => kmsKeyIn(key, region) === undefined)
  if (without.length > 0)
    faults.push(
      `kms_key ${key} is a key of one region, and ${without.join(', ')} need one too: name an alias that is there in each (alias/NAME), or a multi-region key (mrk-…)`,
    )
  if (AWS_KEY.test(key) && ami.shareWith.length > 0)
    faults.push(`share_with: no other account can use what is encrypted with ${key}; it takes a key of your own`)
  return faults
}

function volumeFaults(volume: Ami['volume']): string[] {
  if (volume === undefined) return []
  // What bake takes when nothing is said.
  const { type = 'gp3', iops, throughputMiBs } = volume
  const faults: string[] = []
  if (!BOOTABLE.has(type)) faults.push(`volume.type ${type} can't boot`)
  if (iops !== undefined && !WITH_IOPS.has(type)) faults.push(`volume.iops is for ${[...WITH_IOPS].join(', ')}, not for ${type}`)
  if (iops === undefined && type.startsWith('io')) faults.push(`volume.type ${type} needs volume.iops`)
  if (throughputMiBs !== undefined && type !== 'gp3') faults.push(`volume.throughput is for gp3, not for ${type}`)
  return faults
}

function tagFaults(tags: Ami['tags']): string[] {
  const entries = Object.entries(tags)
  const faults = entries.flatMap(([key, value]) =>
    RESERVED_TAGS.test(key)
      ? [`tags: ${key} is reserved`]
      : key.length > MAX_KEY || value.length > MAX_VALUE
        ? [`tags: ${key.slice(0, 40)} is too long (${MAX_KEY} characters, and ${MAX_VALUE} for a value)`]
        : [],
  )
  if (entries.length > MAX_TAGS) faults.push(`tags: ${entries.length}, ${MAX_TAGS} at most`)
  return faults
}
