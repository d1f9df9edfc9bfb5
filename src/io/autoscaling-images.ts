import type { AutoScalingGroup, LaunchTemplateSpecification } from '@aws-sdk/client-auto-scaling'
import { AutoScaling } from './autoscaling-client.ts'
import { pages } from './ec2.ts'

/** The most that one page may have. */
const PAGE = 100

/** What the auto-scaling groups of a region are started from. Errors: ec2_* (exit 4). */
export class GroupImages implements AsyncDisposable {
  readonly #scaling: AutoScaling

  constructor(region: string) {
    this.#scaling = new AutoScaling(region)
  }

  /** AMIs that they name by themselves, not through a launch template: id → `launch configuration web-3`, `auto-scaling group web`. */
  async named(): Promise<Map<string, string>> {
    const [configurations, groups] = await Promise.all([this.#configurations(), this.#groups()])
    return new Map([...configurations, ...groups.flatMap(overridesOf)])
  }

  /** Versions of launch templates that they, or instances of theirs, name: `<template's id> <number>`, and the same with its name. */
  async templateVersions(): Promise<Set<string>> {
    const named = (await this.#groups()).flatMap(specificationsOf)
    return new Set(
      named.flatMap(({ LaunchTemplateId, LaunchTemplateName, Version }) =>
        [LaunchTemplateId, LaunchTemplateName].map((template) => `${template} ${Version}`),
      ),
    )
  }

  #configurations(): Promise<[string, string][]> {
    return this.#scaling.call('DescribeLaunchConfigurations', 'all', ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeLaunchConfigurationsCommand({ MaxRecords: PAGE, NextToken }))
        const items = (answer.LaunchConfigurations ?? []).map(({ ImageId, LaunchConfigurationName }): [string, string] => [
          ImageId ?? '',
          `launch configuration ${LaunchConfigurationName}`,
        ])
        return { items, next: answer.NextToken }
      }),
    )
  }

  #groups(): Promise<AutoScalingGroup[]> {
    return this.#scaling.call('DescribeAutoScalingGroups', 'all', ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeAutoScalingGroupsCommand({ MaxRecords: PAGE, NextToken }))
        return { items: answer.AutoScalingGroups ?? [], next: answer.NextToken }
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scaling[Symbol.asyncDispose]()
  }
}

const overridesOf = ({ AutoScalingGroupName, MixedInstancesPolicy }: AutoScalingGroup): [string, string][] =>
  (MixedInstancesPolicy?.LaunchTemplate?.Overrides ?? []).flatMap(({ ImageId }): [string, string][] =>
    ImageId === undefined ? [] : [[ImageId, `auto-scaling group ${AutoScalingGroupName}`]],
  )

function specificationsOf({
  LaunchTemplate,
  MixedInstancesPolicy,
  Instances = [],
}: AutoScalingGroup): LaunchTemplateSpecification[] {
  const { LaunchTemplateSpecification: mixed, Overrides = [] } = MixedInstancesPolicy?.LaunchTemplate ?? {}
  const overrides = Overrides.map((override) => override.LaunchTemplateSpecification)
  return [LaunchTemplate, mixed, ...overrides, ...Instances.map((instance) => instance.LaunchTemplate)].filter(
    (each) => each !== undefined,
  )
}
