import type { Call } from './ec2.ts'
import type { SnapshotGaps } from './ec2-snapshots.ts'
import { type Answer, answerOf, element, escaped, mapItems, refusal, specifiedTags } from './ec2-wire.ts'

interface Marks {
  deprecationTime?: string
  imdsSupport?: string
  deregistrationProtection?: string
  /** How often it is still told of as pending. */
  pending: number
  failed?: string
}

/** EC2's limit, years. */
const LATEST_DEPRECATION_YEARS = 10

/**
 * Part of the stand-in for EC2 (ec2.ts). API_EnableImageDeprecation, API_EnableImageDeregistrationProtection, API_ModifyImageAttribute (ImdsSupport; moto does
 * launch permissions), API_CopyImage (tags, keys: "the action can appear to complete, but eventually fails"; names are unique in a region),
 * API_DeregisterImage (not of a protected one), and in API_DescribeImages what came of all these.
 */
export class ImageGaps {
  readonly #options: { readonly kmsKeys: Set<string>; pendingLooks: number }
  readonly #marks = new Map<string, Marks>()

  readonly #snapshots: SnapshotGaps

  constructor(options: { readonly kmsKeys: Set<string>; pendingLooks: number }, snapshots: SnapshotGaps) {
    this.#options = options
    this.#snapshots = snapshots
  }

  /** Undefined: none of its business. */
  async answer(call: Call): Promise<Answer | undefined> {
    const { action, form } = call
    const id = form.get('ImageId') ?? ''
    const marks = this.#of(call.region, id)
    const done = answerOf(action, '<return>true</return>')
    switch (action) {
      case 'DescribeImages':
        return this.#describe(call)
      case 'CopyImage':
        return this.#copy(call)
      case 'EnableImageDeprecation':
        return (await this.missing(call, id)) ?? this.#deprecate(marks, form.get('DeprecateAt'), done)
      case 'EnableImageDeregistrationProtection': {
        const missing = await this.missing(call, id)
        if (missing) return missing
        marks.deregistrationProtection =
          form.get('WithCooldown') === 'true' ? 'enabled-with-cooldown' : 'enabled-without-cooldown'
        return answerOf(action, `<return>${marks.deregistrationProtection}</return>`)
      }
      case 'DisableImageDeregistrationProtection':
        marks.deregistrationProtection = 'disabled'
        return answerOf(action, '<return>disabled</return>')
      case 'ModifyImageAttribute': {
        const version = form.get('ImdsSupport.Value')
        if (version === null) return call.ask(form)
        const missing = await this.missing(call, id)
        if (missing) return missing
        if (version !== 'v2.0') return refusal('InvalidParameterValue', `Value (${version}) for parameter ImdsSupport is invalid`)
        marks.imdsSupport = version
        return done
      }
      case 'DeregisterImage':
        if (marks.deregistrationProtection?.startsWith('enabled'))
          return refusal('OperationNotPermitted', `The image ${id} has deregistration protection and can't be deregistered`)
        return call.ask(form)
      default:
        return undefined
    }
  }

  #of(region: string, id: string): Marks {
    const key = `${region} ${id}`
    const found = this.#marks.get(key) ?? { pending: 0 }
    this.#marks.set(key, found)
    return found
  }

  async missing(call: Call, id: string): Promise<Answer | undefined> {
    const found = await call.ask({ Action: 'DescribeImages', 'ImageId.1': id })
    return found.status === 200 && found.body.includes(id)
      ? undefined
      : refusal('InvalidAMIID.NotFound', `The image id '[${id}]' does not exist`)
  }

  #deprecate(marks: Marks, at: string | null, done: Answer): Answer {
    const time = new Date(at ?? '')
    const latest = new Date()
    latest.setFullYear(latest.getFullYear() + LATEST_DEPRECATION_YEARS)
    if (Number.isNaN(time.getTime()) || time < new Date() || time > latest)
      return refusal('InvalidParameterValue', `Value (${at}) for parameter DeprecateAt is invalid`)
    time.setSeconds(time.getSeconds() < 30 ? 0 : 60, 0)
    marks.deprecationTime = time.toISOString()
    return done
  }

  async #describe(call: Call): Promise<Answer> {
    const { status, body } = await call.ask(call.form)
    if (status !== 200) return { status, body }
    const changed = mapItems(body, 'imagesSet', (item) => {
      const { pending, failed, ...told } = this.#of(call.region, element(item, 'imageId') ?? '')
      if (pending > 0) this.#of(call.region, element(item, 'imageId') ?? '').pending--
      const more = Object.entries(told).map(([name, value]) => `<${name}>${value}</${name}>`)
      const state = pending > 0 ? 'pending' : failed === undefined ? undefined : 'failed'
      if (state === 'failed')
        more.push(`<stateReason><code>Client.InternalError</code><message>${escaped(failed!)}</message></stateReason>`)
      const registered = this.#snapshots.describeImage(call.region, item)
      const stated = state === undefined ? registered : registered.replace(/<imageState>[^<]*</, `<imageState>${state}<`)
      const others = told.imdsSupport === undefined ? stated : stated.replace(/<imdsSupport>[^<]*<\/imdsSupport>/, '')
      return others.replace(/<\/item>$/, `${more.join('')}</item>`)
    })
    return { status, body: changed }
  }

  async #copy(call: Call): Promise<Answer> {
    const { form, region } = call
    const name = form.get('Name') ?? ''
    const same = await call.ask({
      Action: 'DescribeImages',
      'Owner.1': 'self',
      'Filter.1.Name': 'name',
      'Filter.1.Value.1': name,
    })
    if (element(same.body, 'imageId') !== undefined)
      return refusal('InvalidAMIName.Duplicate', `AMI name ${name} is already in use by AMI ${element(same.body, 'imageId')}`)
    const key = form.get('KmsKeyId')
    if (key !== null && form.get('Encrypted') !== 'true')
      return refusal('InvalidParameterCombination', 'KmsKeyId needs Encrypted')
    const answer = await call.ask(form)
    const id = element(answer.body, 'imageId')
    if (answer.status !== 200 || id === undefined) return answer
    const marks = this.#of(region, id)
    marks.pending = this.#options.pendingLooks
    if (key !== null && !this.#options.kmsKeys.has(key)) marks.failed = `The KMS key ${key} does not exist or can't be used`
    const made = await call.ask({ Action: 'DescribeImages', 'ImageId.1': id })
    const snapshot = element(made.body, 'snapshotId')
    const from = { region: form.get('SourceRegion') ?? region, id: form.get('SourceImageId') ?? '' }
    const source = await call.in(from.region).ask({ Action: 'DescribeImages', 'ImageId.1': from.id })
    const copied = { ...from, snapshot: element(source.body, 'snapshotId') ?? '' }
    if (snapshot !== undefined) this.#snapshots.copied(copied, { region, id, snapshot }, key ?? undefined)
    for (const [kind, resource] of [
      ['image', id],
      ['snapshot', snapshot],
    ] as const) {
      const tags = specifiedTags(form, kind)
      if (tags.length === 0 || resource === undefined) continue
      const fields = tags.flatMap(([Key, Value], at) => [
        [`Tag.${at + 1}.Key`, Key],
        [`Tag.${at + 1}.Value`, Value],
      ])
      await call.ask({ Action: 'CreateTags', 'ResourceId.1': resource, ...Object.fromEntries(fields) })
    }
    return answer
  }
}
