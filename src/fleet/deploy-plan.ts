import { TAG } from '../aws-tags.ts'
import type { Rolling } from '../config.ts'
import { refused } from '../errors.ts'
import type { Group, NamedTemplate } from '../io/autoscaling-groups.ts'
import type { TemplateVersion } from '../io/ec2-templates.ts'
import type { Process } from '../scaling-processes.ts'
import { type DeployWorld, instancesByVersion } from './deploy-world.ts'
import { type DeploymentDocument, type Launch, newest } from './deployments.ts'
import { type Migrate, planFull } from './full-plan.ts'
import { isActive } from './refreshes.ts'
import { readSwaps } from './swap-record.ts'

/** What is to be delivered: a release's launch template version, and the AMI that must be in it. */
export interface Target {
  release?: string
  commit?: string
  image: string
  template: { name: string; version: number }
}

export type DeployStrategy = DeploymentDocument['strategy']

export interface DeployAsk {
  kind: DeploymentDocument['kind']
  strategy: DeployStrategy
  stack: string
  group: string
  rolling: Rolling
  /** Of a full deployment. */
  migrate?: Migrate
  target: Target
}

export interface DeployPlan {
  group: Group
  document: DeploymentDocument
  /** Its number: taken by nobody when this was planned. */
  n: number
  /** The group launches this already, and every instance is healthy and of it. */
  current: boolean
}

/** Without these no instance is ever replaced. */
const NEEDED: Record<DeployStrategy, readonly Process[]> = {
  rolling: ['InstanceRefresh', 'Launch', 'Terminate', 'HealthCheck', 'AddToLoadBalancer'],
  full: ['Launch', 'Terminate'],
}
/**
 * What a deployment would do; looks only. Throws (exit 2) unknown_group, group_mixed, group_without_template, group_unnumbered, processes_suspended,
 * launch_template_other, launch_version_gone, image_gone, wrong_architecture, refresh_in_progress, and for a full one what planFull throws; ec2_* (exit 4).
 */
export async function planDeploy(ask: DeployAsk, world: DeployWorld): Promise<DeployPlan> {
  // Before anything is looked at: what others do from here on is noticed (rolling.ts, begin).
  const n = ((await newest(world.ledger, ask.stack))?.n ?? -1) + 1
  const { group, template } = await checkGroup(ask, world)
  const { target, stack, kind } = ask
  if (target.template.name !== template.name)
    throw refused(
      'launch_template_other',
      `group ${group.name} launches from ${template.name}, and ${nameOf(target)} has a version of ${target.template.name}`,
      {
        next: `set machine.launch_template: ${template.name} in bake.yaml and run bake ami, or let the group launch from ${target.template.name}`,
        ids: { group: group.name },
      },
    )
  const versions = await world.templates.versions(template.name, { resolve: false })
  const from = launchOf(template, numbered(template, versions, group))
  const to = launchOf({ ...template, version: String(target.template.version) }, await versionOf(target, versions, group, world))
  const [refresh] = await world.refreshes.list(group.name)
  if (refresh && isActive(refresh.status))
    throw refused(
      'refresh_in_progress',
      `group ${group.name} is in the middle of instance refresh ${refresh.id} (${refresh.status}), not of bake's`,
      {
        next: `wait for its end, or stop it: aws autoscaling cancel-instance-refresh --auto-scaling-group-name ${group.name}`,
        ids: { group: group.name, refresh: refresh.id },
      },
    )
  // Instances of the right version may run other images than it has.
  const { last } = await readSwaps(world.ledger, stack)
  const swapped = last !== undefined && last.state !== 'closed'
  const current =
    !swapped && from.template.version === to.template.version && group.instances.every((instance) => isOf(instance, to))
  const { project, by } = world
  const every = {
    version: 1,
    project,
    stack,
    kind,
    group: group.name,
    region: world.groups.region,
    from,
    to,
    by,
    at: Date.now(),
  } as const
  const document: DeploymentDocument =
    ask.strategy === 'rolling' || current
      ? {
          ...every,
          strategy: 'rolling',
          rolling: swapped ? { ...ask.rolling, skipMatching: false } : ask.rolling,
          ...(refresh && { before: refresh.id }),
        }
      : { ...every, strategy: 'full', full: await planFull({ stack, migrate: ask.migrate }, group, world) }
  return { group, n, current, document }
}

/** Throws unknown_group (exit 2). */
export async function groupNamed(stack: string, name: string, groups: DeployWorld['groups']): Promise<Group> {
  const group = await groups.get(name)
  if (group) return group
  throw refused('unknown_group', `stack ${stack}: there is no auto-scaling group ${name} in ${groups.region}`, {
    next: `correct stacks.${stack}.autoscaling_group in bake.yaml, or aws.region`,
    ids: { stack, group: name },
  })
}

/** Throws unknown_group, group_mixed, group_without_template or processes_suspended (exit 2). */
export async function checkGroup(
  { group: name, stack, strategy }: Pick<DeployAsk, 'group' | 'stack' | 'strategy'>,
  { groups }: Pick<DeployWorld, 'groups'>,
): Promise<{ group: Group; template: NamedTemplate }> {
  const group = await groupNamed(stack, name, groups)
  const ids = { stack, group: name }
  if (group.mixed)
    throw refused('group_mixed', `group ${name} has a mixed instances policy, which bake doesn't deploy to`, {
      next: 'let it launch from one launch template',
      ids,
    })
  const { template } = group
  if (template === undefined)
    throw refused('group_without_template', `group ${name} launches from a launch configuration`, {
      next: 'let it launch from the launch template that machine.launch_template in bake.yaml names',
      ids,
    })
  const suspended = NEEDED[strategy].filter((process) => group.suspended.includes(process))
  if (suspended.length > 0)
    throw refused('processes_suspended', `group ${name} has suspended ${suspended.join(', ')}: no instance would be replaced`, {
      next: `bake autoscaling resume --stack ${stack}`,
      ids,
    })
  return { group, template }
}

/** The group's own version: without a number, or an image that is a name, there is nothing to roll back to. */
function numbered({ name, version }: NamedTemplate, versions: TemplateVersion[], group: Group): TemplateVersion {
  const found = versions.find(({ number }) => String(number) === version)
  const ids = { group: group.name, template: name }
  if (found?.imageId?.startsWith('resolve:'))
    throw refused(
      'group_unnumbered',
      `version ${version} of ${name} launches ${found.imageId}: with no AMI in it Auto Scaling can't roll back`,
      {
        next: `let the group launch a version that names an AMI: bake ami makes one`,
        ids,
      },
    )
  if (found) return found
  if (!version.startsWith('$'))
    throw refused('launch_version_gone', `launch template ${name} has no version ${version} any more, which the group launches`, {
      next: 'let the group launch a version that there is',
      ids,
    })
  const numbers = [...instancesByVersion(group).keys()].filter((each) => /^[0-9]+$/.test(each))
  const number = numbers.length === 1 ? numbers[0] : 'NUMBER'
  throw refused(
    'group_unnumbered',
    `group ${group.name} launches version ${version} of ${name}: with no number Auto Scaling can't roll back`,
    {
      next: `name the version that it runs: aws autoscaling update-auto-scaling-group --auto-scaling-group-name ${group.name} --launch-template 'LaunchTemplateName=${name},Version=${number}'`,
      ids,
    },
  )
}

/** Versions never change, but they and images can be deleted. */
async function versionOf(
  target: Target,
  versions: TemplateVersion[],
  group: Group,
  world: DeployWorld,
): Promise<TemplateVersion> {
  const { image, template } = target
  const version = versions.find(({ number }) => number === template.version)
  const again = target.release === undefined ? {} : { next: `bake ami --release ${target.release}    makes it again` }
  if (version?.imageId !== image)
    throw refused(
      'launch_version_gone',
      version === undefined
        ? `launch template ${template.name} has no version ${template.version} any more`
        : `version ${template.version} of launch template ${template.name} launches ${version.imageId}, not ${image}`,
      again,
    )
  const ami = await world.images.get(image)
  if (ami?.state !== 'available')
    throw refused('image_gone', `${image} is ${ami?.state ?? `not there in ${world.groups.region}`}`, again)
  const type = version.instanceType ?? group.instances.find((instance) => instance.type !== undefined)?.type
  const known = type === undefined ? undefined : await world.instances.type(type)
  if (known && !known.architectures.includes(ami.architecture))
    throw refused(
      'wrong_architecture',
      `${image} is ${ami.architecture}, and ${type} of group ${group.name} is ${known.architectures.join(' and ')}`,
      {
        next: `bake it from a base of ${known.architectures.join(' or ')} (machine.also), or change the launch template's instance type`,
      },
    )
  return version
}

const launchOf = ({ id, name }: NamedTemplate, version: TemplateVersion): Launch => ({
  ...releaseOf(version),
  image: version.imageId ?? '',
  template: { id, name, version: version.number },
})

/** Of a version that bake made: the tags of what it launches. */
export function releaseOf({ tags }: TemplateVersion): Pick<Launch, 'release' | 'commit'> {
  const { [TAG.release]: release, [TAG.sha]: commit } = tags.instance ?? {}
  return { ...(release !== undefined && { release }), ...(commit !== undefined && { commit }) }
}

const isOf = ({ template, healthy }: Group['instances'][number], { template: wanted }: Launch): boolean =>
  healthy && template?.id === wanted.id && template.version === String(wanted.version)

export const nameOf = ({ release, template }: Pick<Launch, 'release'> & { template: { version: number } }): string =>
  release ?? `version ${template.version}`
