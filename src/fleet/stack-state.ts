import type { Group } from '../io/autoscaling-groups.ts'
import { nameOf, releaseOf } from './deploy-plan.ts'
import { type DeployWorld, instancesByVersion } from './deploy-world.ts'
import { type Deployment, newest } from './deployments.ts'
import { standing } from './full-state.ts'
import { settle } from './rolling.ts'

/** What runs on an auto-scaling group. */
export interface GroupState {
  group: string
  min: number
  desired: number
  max: number
  /** What new instances are launched from. `release` and `commit`: of a version that bake made. */
  launch?: { release?: string; commit?: string; image?: string; template: { name: string; version: string } }
  instances: { id: string; lifecycle: string; healthy: boolean; version?: string }[]
  suspended: string[]
  /** How it differs from what was last deployed; empty: it is as it should be. */
  drift: string[]
  /** The newest one, and how it ended, or `running`. */
  deployment?: { n: number; release?: string; status: string; step?: string }
}

/** Throws ec2_* (exit 4); undefined: there is no such group. */
export async function groupState(stack: string, name: string, world: DeployWorld): Promise<GroupState | undefined> {
  const { groups, templates, ledger } = world
  const group = await groups.get(name)
  if (group === undefined) return undefined
  const { template, min, desired, max, suspended } = group
  const [versions, last] = await Promise.all([
    template ? templates.versions(template.name) : [],
    // Who may only look sees it as it is recorded.
    newest(ledger, stack).then((newest) => newest && settle(newest, world).catch(() => newest)),
  ])
  const launched = versions.find(({ number }) => String(number) === template?.version)
  return {
    ...{ group: name, min, desired, max, suspended },
    ...(template && {
      launch: {
        ...(launched && releaseOf(launched)),
        ...(launched?.imageId && { image: launched.imageId }),
        template: { name: template.name, version: template.version },
      },
    }),
    instances: group.instances.map(({ id, lifecycle, healthy, template: of }) => ({
      ...{ id, lifecycle, healthy },
      ...(of && { version: of.version }),
    })),
    drift: driftOf(group, last),
    ...(last && { deployment: deploymentOf(last) }),
  }
}

function deploymentOf(deployment: Deployment) {
  const { n, document, ended } = deployment
  const step = standing(deployment)
  return {
    n,
    ...(document.to.release !== undefined && { release: document.to.release }),
    status: ended?.status ?? 'running',
    ...(step !== undefined && { step }),
  }
}

function driftOf(group: Group, last: Deployment | undefined): string[] {
  const { template, instances } = group
  const drift: string[] = []
  const ended = last?.ended
  if (last && ended) {
    const { from, to } = last.document
    const recorded = ended.status === 'deployed' ? to : from
    // What failed or was cancelled may have left either.
    const known = ended.status === 'deployed' || ended.status === 'rolled-back'
    if (known && (template?.id !== recorded.template.id || template.version !== String(recorded.template.version)))
      drift.push(
        `the group launches ${template ? `version ${template.version} of ${template.name}` : 'no launch template'}, not version ${recorded.template.version} (${nameOf(recorded)})`,
      )
  }
  const others = [...instancesByVersion(group)].filter(([version]) => template !== undefined && version !== template.version)
  // While a deployment goes on they are being replaced.
  if (last === undefined || ended)
    for (const [version, count] of others)
      drift.push(
        `${count} of ${instances.length} instances ${version === '' ? 'of no launch template' : `of version ${version}`}`,
      )
  return drift
}
