import { TAG } from '../../aws-tags.ts'
import { type BakeError, unavailable } from '../../errors.ts'
import type { Ec2Image } from '../../io/ec2-image.ts'
import type { Ec2Images } from '../../io/ec2-images.ts'
import type { Ec2Snapshots } from '../../io/ec2-snapshots.ts'
import { sha256 } from '../../names.ts'
import type { MachineEvent } from '../machine.ts'
import { kmsKeyIn } from '../registration.ts'

/** What the first bake upon a base builds upon in one region. */
export interface BaseSnapshot {
  region: string
  /** This account's own. */
  id: string
  encrypted: boolean
  /** The key that was asked for, `default` for what is encrypted by default, `none`. */
  key: string
}

export interface BaseWorld {
  images(region: string): Pick<Ec2Images, 'tagged' | 'copy' | 'waitAvailable'>
  snapshots(region: string): Pick<Ec2Snapshots, 'get' | 'encryptedByDefault'>
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/**
 * The snapshot of a base in `region`: the base's own, when this account owns it there and it is encrypted as it should be; else that of a copy of the base, which is
 * made once for each base, region and key, and stays. EBS reads no public snapshots, takes no parents of other accounts, and refuses unencrypted parents where
 * encryption by default is on. Throws ami_failed (exit 3), ec2_* (exit 4).
 */
export async function baseSnapshot(
  base: Ec2Image,
  region: string,
  wanted: { kmsKey?: string | undefined; project: string },
  world: BaseWorld,
): Promise<BaseSnapshot> {
  const kmsKey = wanted.kmsKey && kmsKeyIn(wanted.kmsKey, region)
  const [own, byDefault] = await Promise.all([
    region === base.region ? world.snapshots(region).get(base.rootSnapshot ?? '') : undefined,
    kmsKey === undefined ? world.snapshots(region).encryptedByDefault() : true,
  ])
  const key = kmsKey ?? (byDefault ? 'default' : 'none')
  if (own?.state === 'completed' && isEncryptedSo(own, kmsKey, byDefault))
    return { region, id: own.id, encrypted: own.encrypted, key }
  const copy = await copyOf(base, region, { kmsKey, key, project: wanted.project }, world)
  if (copy.rootSnapshot === undefined) throw noSnapshot(copy)
  return { region, id: copy.rootSnapshot, encrypted: copy.encrypted, key }
}

/** A key's alias isn't told of by a snapshot: then a copy tells by its tag. */
const isEncryptedSo = (own: { encrypted: boolean; kmsKey?: string }, kmsKey: string | undefined, byDefault: boolean): boolean =>
  kmsKey === undefined ? own.encrypted || !byDefault : own.kmsKey === kmsKey

interface Copying {
  kmsKey: string | undefined
  key: string
  project: string
}

/** CopyImage, not CopySnapshot: of many public images nobody else may see the snapshots, and a token makes two bakes at once make one copy. */
async function copyOf(base: Ec2Image, region: string, { kmsKey, key, project }: Copying, world: BaseWorld): Promise<Ec2Image> {
  const images = world.images(region)
  const mark = { [TAG.baseOf]: base.id, [TAG.key]: key }
  const there = (await images.tagged(mark)).find(({ state }) => state === 'available' || state === 'pending')
  if (there?.state === 'available') return there
  const token = sha256(`base ${base.id} ${region} ${key}`)
  const why = region === base.region ? 'EBS can’t build upon its own snapshot' : `it is in ${base.region}`
  const text = `copying the base ${base.id} to ${region}, once: ${why}`
  if (there === undefined) world.tell({ type: 'note', level: 'info', text, t: Date.now() })
  const id =
    there?.id ??
    (await images.copy({
      ...{ sourceRegion: base.region, sourceId: base.id, name: `bake-base-${base.id}-${token.slice(0, 12)}`, token },
      description: `${base.name} (${base.id}), for bakes`,
      ...(kmsKey !== undefined && { kmsKey }),
      tags: { Name: `bake base ${base.name}`.slice(0, 250), [TAG.project]: project, ...mark },
    }))
  return images.waitAvailable(id, world.signal)
}

const noSnapshot = ({ id, region }: Ec2Image): BakeError =>
  unavailable('base_unfit', `the copy ${id} of the base in ${region} has no snapshot`, { ids: { ami: id, region } })
