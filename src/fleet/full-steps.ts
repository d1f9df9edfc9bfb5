import type { Group, GroupInstance } from '../io/autoscaling-groups.ts'
import type { Process } from '../scaling-processes.ts'
import { askNew } from './full-check.ts'
import { GivenUp, type Run } from './full-run.ts'
import { isRefused } from './refreshes.ts'

/** The steps of a `full` deployment. Each looks at what there is first, so that it can be taken again by whoever doesn't know whether it was. */

/** What a group does by itself: replace, add, remove, register. */
const SUSPENDED: readonly Process[] = [
  'AddToLoadBalancer',
  'AlarmNotification',
  'AZRebalance',
  'HealthCheck',
  'ReplaceUnhealthy',
  'ScheduledActions',
]
/** Launching, and the start of services and agents. */
const NEW_MS = 30 * 60_000
/** Looks at which Auto Scaling says the same trouble: it tries again by itself, but not for ever. */
const LOOKS_OF_TROUBLE = 24
/** Health checks of a load balancer take minutes at most: 10 × 300 s is the slowest that there is. */
const HEALTHY_MS = 55 * 60_000
/** Instances that are to serve again were well a while ago. */
const AGAIN_MS = 15 * 60_000
const SLACK_MS = 5 * 60_000
const TERMINATED_MS = 15 * 60_000

const leaves = ({ lifecycle }: GroupInstance): boolean => lifecycle.startsWith('Terminat')
const idsOf = (instances: { id: string }[]): string[] => instances.map(({ id }) => id)
const newOf = (run: Run, { instances }: Group): GroupInstance[] =>
  instances.filter((each) => !run.full.instances.includes(each.id) && !leaves(each))
const oldOf = (run: Run, { instances }: Group): GroupInstance[] =>
  instances.filter((each) => run.full.instances.includes(each.id) && !leaves(each))

export async function suspend(run: Run): Promise<void> {
  const { name, suspended } = await run.group()
  const missing = SUSPENDED.filter((process) => !suspended.includes(process))
  run.check()
  if (missing.length > 0) await run.world.groups.suspend(name, missing)
  checkUnchanged(run, await run.group())
}

/** From here on it changes nothing by itself; until here it, or a person, might have. Throws GivenUp. */
function checkUnchanged({ full, document }: Run, group: Group): void {
  const { sizes, protectsNew, instances } = full
  const was = told({ ...sizes, protectsNew }, instances, String(document.from.template.version))
  const is = told(group, idsOf(group.instances), group.template?.version)
  if (is !== was) throw new GivenUp(`the group has changed since this was planned: it was ${was}; it is ${is}`)
}

const told = (
  { min, desired, max, protectsNew }: Pick<Group, 'min' | 'desired' | 'max' | 'protectsNew'>,
  instances: string[],
  version: string | undefined,
): string =>
  `${desired} instances (${min} to ${max}${protectsNew ? ', new ones protected' : ''}) of version ${version}: ${[...instances].sort().join(' ')}`

/** Once the new version is the group's, all that it launches is new. */
export async function double(run: Run): Promise<void> {
  const { sizes } = run.full
  const { template } = run.document.to
  const group = await run.group()
  const desired = sizes.desired * 2
  if (group.template?.version === String(template.version) && group.desired >= desired && group.protectsNew) return
  run.check()
  await run.world.changes.update(group.name, { template, desired, max: Math.max(sizes.max, desired), protectsNew: true })
}

/** Ids of the new instances, once they are all there and well by their own checks. Throws GivenUp. */
export async function checkNew(run: Run): Promise<string[]> {
  const { desired } = run.full.sizes
  let fresh: string[] = []
  let trouble = 0
  await run.until({ what: 'the new instances', deadlineMs: NEW_MS }, async () => {
    const group = await run.group()
    fresh = idsOf(newOf(run, group).filter(({ lifecycle }) => lifecycle === 'InService'))
    if (fresh.length >= desired) return true
    const said = await run.world.changes.trouble(group.name)
    trouble = said === undefined ? 0 : trouble + 1
    if (trouble > LOOKS_OF_TROUBLE) throw new GivenUp(`Auto Scaling launches no instances: ${said}`)
    return `${fresh.length} of ${desired}${said === undefined ? '' : `; Auto Scaling says: ${said}`}`
  })
  await askNew(run, fresh, NEW_MS)
  return fresh
}

/** The outage starts. */
export async function drainOld(run: Run): Promise<void> {
  const { targetGroups, instances } = run.full
  const drainSeconds = Math.max(0, ...targetGroups.map((each) => each.drainSeconds))
  await run.until({ what: 'the old instances to drain', deadlineMs: drainSeconds * 1000 + SLACK_MS }, async () => {
    let left = 0
    for (const { arn } of targetGroups) {
      const targets = (await run.world.balancers.targets(arn)).filter(({ id }) => instances.includes(id))
      left += targets.filter(({ state }) => state !== 'unused').length
      const serving = targets.filter(({ state }) => !state.endsWith('draining') && state !== 'unused')
      run.check()
      if (serving.length > 0) await run.world.balancers.deregister(arn, serving)
    }
    return left === 0 ? true : `${left} still drain, for ${drainSeconds} s at most`
  })
}

/** The outage ends. Auto Scaling registers none that it launched while AddToLoadBalancer was suspended, not even when it is resumed. Throws GivenUp. */
export const registerNew = (run: Run): Promise<void> =>
  serve(run, run.fresh, { what: 'the new instances to be healthy behind the load balancer', deadlineMs: HEALTHY_MS })

/** Registers instances that aren't, and waits until they are healthy. */
async function serve(run: Run, instances: string[], waiting: { what: string; deadlineMs: number }): Promise<void> {
  const { balancers } = run.world
  await run.until(waiting, async () => {
    const problems: string[] = []
    for (const { arn, name } of run.full.targetGroups) {
      const targets = await balancers.targets(arn)
      const there = new Map(targets.map((target) => [target.id, target]))
      const missing = instances.filter((id) => there.get(id) === undefined || there.get(id)!.state.endsWith('draining'))
      run.check()
      // Right after its launch a load balancer doesn't know an instance yet.
      const known = missing.length === 0 || (await balancers.register(arn, missing))
      const sick = instances.flatMap((id) => {
        const target = there.get(id)
        return target && servesOr(target) ? [] : [target]
      })
      if (sick.length === 0) continue
      const why = known
        ? (sick.find((target) => target?.description)?.description ?? '')
        : 'the load balancer does not know them all yet'
      problems.push(`${instances.length - sick.length} of ${instances.length} in ${name}${why === '' ? '' : ` (${why})`}`)
    }
    return problems.length === 0 ? true : problems.join(', ')
  })
}

/** A target group that no load balancer uses checks nobody. */
const servesOr = ({ state, reason }: { state: string; reason?: string }): boolean =>
  state === 'healthy' || (state === 'unused' && reason === 'Target.NotInUse') || reason === 'Target.HealthCheckDisabled'

export async function retireOld(run: Run): Promise<void> {
  await run.until({ what: 'the old instances to be terminated', deadlineMs: TERMINATED_MS }, async () => {
    const left = oldOf(run, await run.group())
    return left.length === 0 ? true : await terminate(run, left)
  })
}

async function terminate(run: Run, instances: GroupInstance[]): Promise<string> {
  for (const { id } of instances) {
    run.check()
    await run.world.changes.terminate(id).catch((error: unknown) => {
      // The next look asks again.
      if (isRefused(error, 'ScalingActivityInProgress') || isRefused(error, 'ResourceContention')) return
      // It is gone since it was looked for.
      if (!isRefused(error, 'ValidationError')) throw error
    })
  }
  return `${instances.length} left`
}

/** What serves must serve before anything else is taken away. */
export async function reregisterOld(run: Run): Promise<void> {
  const { targetGroups } = run.full
  const waiting = { what: 'the old instances to serve again', deadlineMs: AGAIN_MS }
  const old = idsOf(oldOf(run, await run.group()))
  // Those that weren't healthy before are no reason to keep the new ones.
  await serve(run, old, waiting).catch((error: unknown) => {
    if (!(error instanceof GivenUp)) throw error
    run.tell('warning', error.message)
  })
  for (const { arn } of targetGroups) {
    const others = (await run.world.balancers.targets(arn)).filter(({ id }) => run.fresh.includes(id))
    run.check()
    if (others.length > 0) await run.world.balancers.deregister(arn, others)
  }
}

/** With Launch suspended, what is terminated by its id isn't replaced, and the group never has to choose what to take away. */
export async function removeNew(run: Run): Promise<void> {
  const { template } = run.document.from
  const { name, suspended, template: now } = await run.group()
  run.check()
  if (!suspended.includes('Launch')) await run.world.groups.suspend(name, ['Launch'])
  run.check()
  if (now?.version !== String(template.version)) await run.world.changes.update(name, { template })
  await run.until({ what: 'the new instances to be terminated', deadlineMs: TERMINATED_MS }, async () => {
    const left = newOf(run, await run.group())
    return left.length === 0 ? true : await terminate(run, left)
  })
}

/** All as it was but for the version, or with that when it went back. What this deployment never changed is left to whoever did. */
export async function restore(run: Run): Promise<void> {
  const { suspended } = run.full
  const group = await run.group()
  const resumed = [...SUSPENDED, 'Launch' as const].filter(
    (process) => group.suspended.includes(process) && !suspended.includes(process),
  )
  if (run.at.has('doubling')) await restoreSizes(run, group)
  run.check()
  if (resumed.length > 0) await run.world.groups.resume(group.name, resumed)
}

async function restoreSizes(run: Run, group: Group): Promise<void> {
  const { sizes, protectsNew } = run.full
  const is = { min: group.min, desired: group.desired, max: group.max, protectsNew: group.protectsNew }
  const was = { ...sizes, protectsNew }
  run.check()
  if (JSON.stringify(is) !== JSON.stringify(was)) await run.world.changes.update(group.name, was)
  const fresh = idsOf(newOf(run, group).filter((instance) => instance.protected))
  run.check()
  if (!protectsNew && fresh.length > 0) await run.world.changes.protect(group.name, fresh, false)
}
