import { refused } from '../errors.ts'
import type { Group } from '../io/autoscaling-groups.ts'
import { newBuildId } from '../names.ts'
import type { DeployWorld } from './deploy-world.ts'
import type { FullRecord } from './full-record.ts'
import { SHELL_DOCUMENT } from './full-shell.ts'

/** The hook of a stack: what runs once, between the old and the new. */
export interface Migrate {
  service: string
  command: string[]
}

/**
 * What a full deployment would find, and is to leave again; looks only, also whether it will be allowed to. Throws (exit 2) group_empty, group_unsettled, group_warm_pool,
 * group_balancers, ssm_missing; ec2_* (exit 4).
 */
export async function planFull(
  { stack, migrate }: { stack: string; migrate: Migrate | undefined },
  group: Group,
  { balancers, commands }: Pick<DeployWorld, 'balancers' | 'commands'>,
): Promise<FullRecord> {
  const { min, desired, max, protectsNew, suspended } = group
  const ids = { stack, group: group.name }
  if (desired === 0)
    throw refused('group_empty', `group ${group.name} is to have no instances: there is nothing to double`, {
      next: `set its size, or bake deploy --stack ${stack} --strategy rolling`,
      ids,
    })
  const others = group.instances.filter(({ lifecycle }) => lifecycle !== 'InService')
  if (others.length > 0 || group.instances.length !== desired)
    throw refused(
      'group_unsettled',
      `group ${group.name} is to have ${desired} instances and has ${group.instances.length}${
        others.length === 0 ? '' : `; ${others.map(({ id, lifecycle }) => `${id} is ${lifecycle}`).join(', ')}`
      }`,
      { next: 'wait until it is as it should be: bake stacks', ids },
    )
  if (group.warmPool)
    throw refused('group_warm_pool', `group ${group.name} has a warm pool: its instances are of the old release`, {
      next: `aws autoscaling delete-warm-pool --auto-scaling-group-name ${group.name}, or bake deploy --stack ${stack} --strategy rolling`,
      ids,
    })
  if (group.otherBalancers.length > 0)
    throw refused(
      'group_balancers',
      `group ${group.name} gets traffic from ${group.otherBalancers.join(', ')}: bake can only deregister from target groups of load balancers`,
      {
        next: `bake deploy --stack ${stack} --strategy rolling, or move the group to an application or network load balancer`,
        ids,
      },
    )
  const instances = group.instances.map(({ id }) => id)
  const online = await commands.online(instances)
  const asked = instances.every((id) => online.has(id))
  if (migrate && !asked)
    throw refused(
      'ssm_missing',
      `hooks.migrate runs through Systems Manager, whose agent does not answer on ${instances.filter((id) => !online.has(id)).join(', ')}`,
      {
        next: "install the SSM agent on the base image, and give the instance profile's role AmazonSSMManagedInstanceCore",
        ids,
      },
    )
  const targetGroups = await balancers.targetGroups(group.targetGroups)
  for (const { arn } of targetGroups) {
    await balancers.targets(arn)
    await balancers.mayChange(arn)
  }
  const lock = newBuildId()
  if (migrate) await commands.find({ document: SHELL_DOCUMENT, comment: lock, since: Date.now() })
  return {
    sizes: { min, desired, max },
    ...{ protectsNew, suspended, instances, targetGroups, asked },
    ...(migrate && { migrate: { ...migrate, lock } }),
  }
}
