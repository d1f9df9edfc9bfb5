import type { EbsStore, StoredSnapshot } from './ebs-store.ts'
import type { Call } from './ec2.ts'
import { type Answer, answerOf, element, mapItems, refusal, specifiedTags } from './ec2-wire.ts'

/** What RegisterImage was told of an image, as DescribeImages tells of it: XML by element. */
type Registered = Record<string, string>

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html; what moto forgets. */
const ATTRIBUTES = {
  Architecture: 'architecture',
  BootMode: 'bootMode',
  EnaSupport: 'enaSupport',
  ImdsSupport: 'imdsSupport',
  RootDeviceName: 'rootDeviceName',
  SriovNetSupport: 'sriovNetSupport',
  TpmSupport: 'tpmSupport',
  VirtualizationType: 'virtualizationType',
} as const
const NAME = /^[A-Za-z0-9()[\] ./\-'@_]{3,128}$/

/**
 * Part of the stand-in for EC2 (ec2.ts), with the snapshots that the stand-in for the EBS direct APIs knows (ebs-store.ts): API_RegisterImage, whose every argument but
 * the name moto drops; states, owners and keys in API_DescribeSnapshots; API_DeleteSnapshot of what an image needs; API_GetEbsEncryptionByDefault.
 */
export class SnapshotGaps {
  readonly #store: EbsStore
  /** By region and image. */
  readonly #registered = new Map<string, Registered & { snapshot: string }>()

  constructor(store: EbsStore) {
    this.#store = store
  }

  async answer(call: Call): Promise<Answer | undefined> {
    const { action, region, form } = call
    if (action === 'RegisterImage') return this.#register(call)
    if (action === 'DescribeSnapshots') return this.#describe(call)
    if (action === 'GetEbsEncryptionByDefault')
      return answerOf(action, `<ebsEncryptionByDefault>${this.#store.encryptedByDefault.has(region)}</ebsEncryptionByDefault>`)
    if (action === 'DeleteSnapshot') return this.#delete(call)
    if (action === 'DeregisterImage') this.#registered.delete(`${region} ${form.get('ImageId')}`)
    return undefined
  }

  /** An item of DescribeImages as the image was registered. */
  describeImage(region: string, item: string): string {
    const registered = this.#registered.get(`${region} ${element(item, 'imageId')}`)
    if (registered === undefined) return item
    const { snapshot: _, ...elements } = registered
    return Object.entries(elements).reduce((xml, [name, value]) => withElement(xml, name, value), item)
  }

  /** A copy of an image, which may have been registered here, has a snapshot with the same blocks. `key`: it is encrypted anew. */
  copied(from: { region: string; id: string; snapshot: string }, to: typeof from, key: string | undefined): void {
    const source = this.#registered.get(`${from.region} ${from.id}`)
    const stored = this.#store.get(from.region, source?.snapshot ?? from.snapshot)
    if (stored === undefined) return
    const copy = this.#store.copy(stored, { region: to.region, id: to.snapshot }, key)
    const elements: Registered = source ?? { blockDeviceMapping: mapping('/dev/sda1', copy, new Map()) }
    const blockDeviceMapping = elements.blockDeviceMapping!.replace(
      /<snapshotId>[^<]*<\/snapshotId>(<encrypted>[^<]*<\/encrypted>)?/,
      `<snapshotId>${to.snapshot}</snapshotId><encrypted>${copy.encrypted}</encrypted>`,
    )
    const root: Registered = source === undefined ? { rootDeviceName: '/dev/sda1' } : {}
    this.#registered.set(`${to.region} ${to.id}`, { ...elements, ...root, blockDeviceMapping, snapshot: to.snapshot })
  }

  async #register(call: Call): Promise<Answer> {
    const { form, region } = call
    const wrong = (message: string) => refusal('InvalidParameterValue', message)
    const name = form.get('Name') ?? ''
    if (!NAME.test(name))
      return refusal('InvalidAMIName.Malformed', `AMI names must be between 3 and 128 characters long: ${name}`)
    const same = await call.ask({
      Action: 'DescribeImages',
      'Owner.1': 'self',
      'Filter.1.Name': 'name',
      'Filter.1.Value.1': name,
    })
    const there = element(same.body, 'imageId')
    if (there !== undefined) return refusal('InvalidAMIName.Duplicate', `AMI name ${name} is already in use by AMI ${there}`)
    if (form.get('TagSpecification.2.ResourceType') ?? (form.get('TagSpecification.1.ResourceType') ?? 'image') !== 'image')
      return wrong('only the image can be tagged')
    // The defaults, i386 and paravirtual, boot on nothing that is made today.
    if (form.get('VirtualizationType') !== 'hvm' || !['x86_64', 'arm64'].includes(form.get('Architecture') ?? ''))
      return wrong('VirtualizationType or Architecture')
    const disk = new Map(
      [...form].flatMap(([key, value]) => (key.startsWith('BlockDeviceMapping.1.') ? [[key.slice(21), value]] : [])),
    )
    const [device, id] = [disk.get('DeviceName'), disk.get('Ebs.SnapshotId')]
    if (device === undefined || device !== form.get('RootDeviceName')) return wrong('RootDeviceName is not among the devices')
    if (disk.has('Ebs.Encrypted') || disk.has('Ebs.KmsKeyId'))
      return refusal('InvalidBlockDeviceMapping', 'the encrypted flag cannot be specified since device has a snapshot specified')
    const snapshot = id === undefined ? undefined : this.#store.get(region, id)
    if (snapshot === undefined || this.#store.now() < snapshot.visibleAt || snapshot.ownerId !== this.#store.account)
      return refusal('InvalidSnapshot.NotFound', `The snapshot '${id}' does not exist.`)
    if (snapshot.state !== 'completed') return refusal('IncorrectState', `Snapshot is in invalid state - ${snapshot.state}`)
    if (Number(disk.get('Ebs.VolumeSize') ?? snapshot.volumeGib) < snapshot.volumeGib)
      return refusal('InvalidBlockDeviceMapping', `Volume of size ${disk.get('Ebs.VolumeSize')}GB is smaller than snapshot`)
    const answer = await call.ask({ Action: 'RegisterImage', Name: name, Description: form.get('Description') ?? '' })
    const image = element(answer.body, 'imageId')
    if (answer.status !== 200 || image === undefined) return answer
    const told = Object.entries(ATTRIBUTES).flatMap(([key, to]) => (form.has(key) ? [[to, form.get(key)!]] : []))
    this.#registered.set(`${region} ${image}`, {
      ...{ bootMode: '', tpmSupport: '', imdsSupport: '', sriovNetSupport: '', enaSupport: 'false', rootDeviceType: 'ebs' },
      ...Object.fromEntries(told),
      blockDeviceMapping: mapping(device, snapshot, disk),
      snapshot: snapshot.id,
    })
    const tags = specifiedTags(form, 'image').flatMap(([Key, Value], at) => [
      [`Tag.${at + 1}.Key`, Key],
      [`Tag.${at + 1}.Value`, Value],
    ])
    if (tags.length > 0) await call.ask({ Action: 'CreateTags', 'ResourceId.1': image, ...Object.fromEntries(tags) })
    return answer
  }

  async #describe({ form, region, ask }: Call): Promise<Answer> {
    const { status, body } = await ask(form)
    if (status !== 200) return { status, body }
    let hidden: string | undefined
    const own = form.get('Owner.1') === 'self'
    const told = mapItems(body, 'snapshotSet', (item) => {
      const id = element(item, 'snapshotId') ?? ''
      const stored = this.#store.get(region, id)
      if (own && (stored?.ownerId ?? element(item, 'ownerId')) !== this.#store.account) return undefined
      if (stored === undefined) return item
      if (this.#store.now() < stored.visibleAt) {
        hidden = id
        return undefined
      }
      const { state, stateMessage = '', volumeGib, encrypted, kmsKey = '', ownerId } = stored
      const elements = {
        status: state,
        statusMessage: stateMessage,
        volumeSize: String(volumeGib),
        encrypted: String(encrypted),
        kmsKeyId: kmsKey,
        ownerId,
      }
      return Object.entries(elements).reduce((xml, [name, value]) => withElement(xml, name, value), item)
    })
    if (hidden !== undefined && form.has('SnapshotId.1'))
      return refusal('InvalidSnapshot.NotFound', `The snapshot '${hidden}' does not exist.`)
    return { status, body: told }
  }

  async #delete({ form, region, ask }: Call): Promise<Answer> {
    const id = form.get('SnapshotId') ?? ''
    for (const [key, { snapshot }] of this.#registered)
      if (snapshot === id && key.startsWith(`${region} `))
        return refusal('InvalidSnapshot.InUse', `The snapshot ${id} is currently in use by ${key.split(' ')[1]}`)
    const answer = await ask(form)
    if (answer.status === 200) this.#store.delete(region, id)
    return answer
  }
}

function mapping(device: string, { id, volumeGib, encrypted }: StoredSnapshot, disk: Map<string, string>): string {
  const [size, type] = [disk.get('Ebs.VolumeSize') ?? volumeGib, disk.get('Ebs.VolumeType') ?? 'gp2']
  const more = ['Iops', 'Throughput'].flatMap((name) =>
    disk.has(`Ebs.${name}`) ? [`<${name.toLowerCase()}>${disk.get(`Ebs.${name}`)}</${name.toLowerCase()}>`] : [],
  )
  const ends = disk.get('Ebs.DeleteOnTermination') ?? 'true'
  const ebs = `<snapshotId>${id}</snapshotId><encrypted>${encrypted}</encrypted><volumeSize>${size}</volumeSize><volumeType>${type}</volumeType><deleteOnTermination>${ends}</deleteOnTermination>${more.join('')}`
  return `<item><deviceName>${device}</deviceName><ebs>${ebs}</ebs></item>`
}

/** In place of the element of that name, or at the end; empty: without it. */
function withElement(item: string, name: string, value: string): string {
  const without = item.replace(new RegExp(`<${name}>.*?</${name}>|<${name}/>`, 's'), '')
  return value === '' ? without : without.replace(/<\/item>$/, `<${name}>${value}</${name}></item>`)
}
