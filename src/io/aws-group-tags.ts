import type { AutoScaling } from './autoscaling-client.ts'
import type { Found, Resource, ResourceStore } from './aws-resource.ts'

/** Tags of an auto-scaling group that its instances get at launch: a setting is a tag. Errors: see ec2-errors.ts. */
export class AwsGroupTags implements ResourceStore {
  readonly #scaling: AutoScaling

  constructor(scaling: AutoScaling) {
    this.#scaling = scaling
  }

  /** Never undefined: a group is the user's, and only its tags are set. */
  async look({ name, settings }: Resource): Promise<Found> {
    const { AutoScalingGroups = [] } = await this.#scaling.call('DescribeAutoScalingGroups', name, ({ sdk, client }) =>
      client.send(new sdk.DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] })),
    )
    const group = AutoScalingGroups[0]
    if (group === undefined)
      return {
        settings: {},
        unsupported: Object.fromEntries(Object.keys(settings).map((tag) => [tag, 'no group of that name yet'])),
      }
    const tags = (group.Tags ?? []).filter(({ Key = '', PropagateAtLaunch }) => Key in settings && PropagateAtLaunch === true)
    return { settings: Object.fromEntries(tags.map(({ Key = '', Value = '' }) => [Key, Value])) }
  }

  async create({ name, settings }: Resource): Promise<void> {
    await this.change({ kind: 'group-tag', name, settings }, Object.keys(settings))
  }

  async change({ name, settings }: Resource, changed: string[]): Promise<void> {
    const Tags = changed.map((Key) => ({
      ...{ Key, Value: String(settings[Key]), PropagateAtLaunch: true },
      ...{ ResourceId: name, ResourceType: 'auto-scaling-group' },
    }))
    await this.#scaling.call('CreateOrUpdateTags', name, ({ sdk, client }) =>
      client.send(new sdk.CreateOrUpdateTagsCommand({ Tags })),
    )
  }
}
