import type { Group, GroupInstance } from '../io/autoscaling-groups.ts'
import type { Process } from '../scaling-processes.ts'
import { askNew } from './full-check.ts'
import { GivenUp, GroupGone, type Run, type Waiting } from './full-run.ts'
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
export const drainOld = (run: Run): Promise<void> => drain(run, run.full.instances, 'the old instances to drain')

/** Deregisters them, and waits until none answers a request any more. Throws GivenUp. */
async function drain(run: Run, instances: string[], what: string): Promise<void> {
  const { targetGroups } = run.full
  const drainSeconds = Math.max(0, ...targetGroups.map((each) => each.drainSeconds))
  await run.until({ what, deadlineMs: drainSeconds * 1000 + SLACK_MS }, async () => {
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

/**
 * The outage ends. Auto Scaling registers none that it launched while AddToLoadBalancer was suspended, not even when it is resumed: neither what a person lets it
 * launch in the place of a new one that died. Throws GivenUp.
 */
export async function registerNew(run: Run): Promise<void> {
  const waiting = { what: 'the new instances to be healthy behind the load balancer', deadlineMs: HEALTHY_MS }
  await serve(run, waiting, async () => {
    const group = await run.group()
    const wanted = group.desired - oldOf(run, group).length
    const instances = idsOf(newOf(run, group).filter(({ lifecycle }) => lifecycle === 'InService'))
    return { instances, missing: Math.max(0, wanted - instances.length) }
  })
}

/** Who is to serve, and how many are to come yet. */
type Servers = () => Promise<{ instances: string[]; missing: number }>

/** Registers instances that aren't, and waits until they are healthy. */
async function serve(run: Run, waiting: Waiting, servers: Servers): Promise<void> {
  const { balancers } = run.world
  await run.until(waiting, async () => {
    const { instances, missing: toCome } = await servers()
    const problems = toCome === 0 ? [] : [`${toCome} still to be launched`]
    for (const { arn, name } of run.full.targetGroups) {
      const targets = await balancers.targets(arn)
      const there = new Map(targets.map((target) => [target.id, target]))
      const missing = instances.filter((id) => there.get(id) === undefined || there.get(id)!.state.endsWith('draining'))
      run.check()
      // Right after its launch a load balancer doesn't know an instance yet.
      const unknown = missing.length === 0 ? undefined : await balancers.register(arn, missing)
      const sick = instances.flatMap((id) => {
        const target = there.get(id)
        return target && servesOr(target) ? [] : [target]
      })
      if (sick.length === 0) continue
      const why = unknown ?? sick.find((target) => target?.description)?.description ?? ''
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

/** What served must serve again before anything is terminated; and never beside the new release. Throws GivenUp. */
export async function reregisterOld(run: Run): Promise<void> {
  // It may have gone back from after registering, also by a person's word.
  const fresh = idsOf(newOf(run, await run.group()))
  await drain(run, [...new Set([...run.fresh, ...fresh])], 'the new instances to drain').catch(unlessOver(run))
  const waiting = { what: 'the old instances to serve again', deadlineMs: AGAIN_MS }
  const servers = async () => ({ instances: idsOf(oldOf(run, await run.group())), missing: 0 })
  // Those that weren't healthy before are no reason to keep the new ones.
  await serve(run, waiting, servers).catch(unlessOver(run))
  const { instances: old } = await servers()
  if (old.length === 0) return run.tell('warning', 'no old instance is left: the group is to launch what it had')
  const nobody = await unserved(run, (id) => old.includes(id))
  if (nobody !== undefined)
    throw new GivenUp(`none of the old instances (${old.join(', ')}) is registered with ${nobody}: terminate those that are dead`)
}

/** When nothing of the old is left the group launches it anew: until somebody serves it isn't over. Throws GivenUp. */
export async function awaitServed(run: Run): Promise<void> {
  const waiting = { what: 'an instance to serve', deadlineMs: HEALTHY_MS }
  await run.until(waiting, async () => {
    const nobody = await unserved(run, () => true)
    return nobody === undefined ? true : `none is registered with ${nobody}`
  })
}

/** Name of a target group that none of the instances is registered with. */
async function unserved(run: Run, isMeant: (id: string) => boolean): Promise<string | undefined> {
  for (const { arn, name } of run.full.targetGroups) {
    const targets = await run.world.balancers.targets(arn)
    if (!targets.some(({ id, state }) => isMeant(id) && !state.endsWith('draining'))) return name
  }
  return undefined
}

const unlessOver = (run: Run) => (error: unknown) => {
  if (!(error instanceof GivenUp) || error instanceof GroupGone) throw error
  run.tell('warning', error.message)
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
