import type { MachineDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { Ec2Image } from '../io/ec2-image.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { AmiBase, Architecture, MachineEvent } from './machine.ts'

export type AmiDefinition = Extract<MachineDefinition['base'], { ami: unknown }>['ami']

/** EC2's words for the architectures that images are built for: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html */
const ARCHITECTURES = { amd64: 'x86_64', arm64: 'arm64' } as const

export const ec2Architecture = (architecture: Architecture): string => ARCHITECTURES[architecture]

export interface AmiLookup {
  /** Of the region that bakes. */
  images: Pick<Ec2Images, 'region' | 'find'>
  /** When a name fits images of several; undefined takes the newest, whatever it is. */
  architecture?: Architecture
  tell(event: MachineEvent): void
}

/** The AMI that bake.yaml names: the one of that id, or the newest of an owner's. Throws (exit 2) base_missing, base_unfit; ec2_* (exit 4). */
export async function findAmi(wanted: AmiDefinition, { images, architecture, tell }: AmiLookup): Promise<AmiBase> {
  const found = await images.find(wanted, architecture && ec2Architecture(architecture))
  const image = found[0]
  if (image === undefined) throw missing(wanted, images.region, architecture)
  const base = asBase(image)
  for (const text of notesOn(image)) tell({ type: 'note', level: 'warning', text, t: Date.now() })
  return base
}

function asBase(image: Ec2Image): AmiBase {
  const architecture = (['amd64', 'arm64'] as const).find((each) => ARCHITECTURES[each] === image.architecture)
  if (architecture === undefined) throw unfit(image, `it is made for ${image.architecture}; x86_64 and arm64 can be baked`)
  if (image.platform === 'windows') throw unfit(image, 'it is Windows')
  if (image.rootDeviceType !== 'ebs') throw unfit(image, `its root is on ${image.rootDeviceType}, not on EBS`)
  if (image.state !== 'available') throw unfit(image, `it is ${image.state}${image.stateReason ? ` (${image.stateReason})` : ''}`)
  const { id, region, name, ownerId, createdAt, bootMode, rootDevice } = image
  return {
    kind: 'ami',
    ...{ id, region, name, ownerId, createdAt, architecture, rootDevice },
    ...(bootMode !== undefined && { bootMode }),
    virtualBytes: image.rootBytes,
  }
}

/** What a person should know of a base, in a sentence each. */
function notesOn({ id, name, productCodes, deprecatedAt }: Ec2Image): string[] {
  const notes: string[] = []
  if (productCodes.length > 0)
    notes.push(
      `${id} (${name}) carries product codes of AWS Marketplace (${productCodes.join(', ')}): every account that launches what is baked on it must subscribe to them, and pays their price`,
    )
  if (deprecatedAt !== undefined && deprecatedAt <= Date.now())
    notes.push(`${id} (${name}) was deprecated by its owner on ${new Date(deprecatedAt).toISOString().slice(0, 10)}`)
  return notes
}

function missing(wanted: AmiDefinition, region: string, architecture: Architecture | undefined) {
  const what =
    'id' in wanted
      ? `there is no AMI ${wanted.id} in ${region} that this account may use`
      : `no AMI in ${region} of owner ${wanted.owner} has a name like ${wanted.name}${architecture ? ` and is made for ${ec2Architecture(architecture)}` : ''}`
  const look =
    'id' in wanted
      ? `aws ec2 describe-images --region ${region} --image-ids ${wanted.id}`
      : `aws ec2 describe-images --region ${region} --owners ${wanted.owner} --filters 'Name=name,Values=${wanted.name}'`
  return refused('base_missing', what, {
    next: `correct machine.base.ami in bake.yaml; ${look} shows what there is`,
    ids: { region, ...wanted },
  })
}

const unfit = ({ id, name, region }: Ec2Image, why: string) =>
  refused('base_unfit', `${id} (${name}) in ${region} can't be baked upon: ${why}`, {
    next: 'choose another machine.base.ami in bake.yaml',
    ids: { ami: id, region },
  })
