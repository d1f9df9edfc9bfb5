import { BakeError, messageOf } from '../errors.ts'
import type { Group, GroupInstance } from '../io/autoscaling-groups.ts'
import type { Process } from '../scaling-processes.ts'
import { isRefused } from './aws-answers.ts'
import { askNew } from './full-check.ts'
import { idsOf, newOf, oldOf } from './full-instances.ts'
import { GivenUp, type Run } from './full-run.ts'

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
const TERMINATED_MS = 15 * 60_000
/** Auto Scaling ends one activity of a group before it takes another. */
const BUSY_MS = 30 * 60_000
/** A launch that was begun before Launch was suspended shows its instance a little later. */
const LOOKS_WITHOUT_NEW = 4

export async function suspend(run: Run): Promise<void> {
  const { name, suspended } = await run.group()
  const missing = SUSPENDED.filter((process) => !suspended.includes(process))
  run.check()
  if (missing.length > 0) await change(run, () => run.world.groups.suspend(name, missing))
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
  const max = Math.max(sizes.max, desired)
  await change(run, () => run.world.changes.update(group.name, { template, desired, max, protectsNew: true }))
}

/** Changes the group as soon as Auto Scaling isn't busy with it. Throws GivenUp. */
async function change(run: Run, act: () => Promise<void>): Promise<void> {
  await run.until({ what: 'Auto Scaling to end what it does', deadlineMs: BUSY_MS }, async () => {
    run.check()
    return await act().then(
      () => true as const,
      (error: unknown) => {
        if (isBusy(error)) return error.message
        throw error
      },
    )
  })
}

const isBusy = (error: unknown): error is BakeError =>
  error instanceof BakeError && (isRefused(error, 'ScalingActivityInProgress') || isRefused(error, 'ResourceContention'))

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

export async function retireOld(run: Run): Promise<void> {
  await run.until({ what: 'the old instances to be terminated', deadlineMs: TERMINATED_MS }, async () => {
    const left = oldOf(run, await run.group())
    return left.length === 0 ? true : await terminate(run, left)
  })
}

async function terminate(run: Run, instances: GroupInstance[]): Promise<string> {
  let said = ''
  for (const { id } of instances) {
    run.check()
    await run.world.changes.terminate(id).catch((error: unknown) => {
      // Gone since it was looked for, or a reason that a person has to see. The next look tries again.
      if (!isBusy(error) && !isRefused(error, 'ValidationError')) throw error
      said = ` (${messageOf(error)})`
    })
  }
  return `${instances.length} left${said}`
}

/** With Launch suspended, what is terminated by its id isn't replaced, and the group never has to choose what to take away. */
export async function removeNew(run: Run): Promise<void> {
  const { template } = run.document.from
  const { name, suspended, template: now } = await run.group()
  run.check()
  if (!suspended.includes('Launch')) await change(run, () => run.world.groups.suspend(name, ['Launch']))
  run.check()
  if (now?.version !== String(template.version)) await change(run, () => run.world.changes.update(name, { template }))
  let empty = 0
  await run.until({ what: 'the new instances to be terminated', deadlineMs: TERMINATED_MS }, async () => {
    const left = newOf(run, await run.group())
    empty = left.length === 0 ? empty + 1 : 0
    if (left.length > 0) return await terminate(run, left)
    return empty >= LOOKS_WITHOUT_NEW ? true : 'none to be seen'
  })
}

/** All as it was but for the version, or with that when it went back. What this deployment never changed is left to whoever did. */
export async function restore(run: Run): Promise<void> {
  const { suspended, protectsNew } = run.full
  const group = await run.group()
  const own = [...SUSPENDED, 'Launch' as const].filter((process) => !suspended.includes(process))
  const resumed = own.filter((process) => group.suspended.includes(process))
  // Taken again by whoever doesn't know that it was: since then the group sizes itself.
  const over = own.length > 1 && resumed.length === 0 && group.protectsNew === protectsNew
  if (run.at.has('doubling') && !over) await restoreSizes(run, group)
  run.check()
  if (resumed.length > 0) await change(run, () => run.world.groups.resume(group.name, resumed))
}

async function restoreSizes(run: Run, group: Group): Promise<void> {
  const { sizes, protectsNew } = run.full
  const is = { min: group.min, desired: group.desired, max: group.max, protectsNew: group.protectsNew }
  const was = { ...sizes, protectsNew }
  run.check()
  if (JSON.stringify(is) !== JSON.stringify(was)) await change(run, () => run.world.changes.update(group.name, was))
  const fresh = idsOf(newOf(run, group).filter((instance) => instance.protected))
  run.check()
  if (!protectsNew && fresh.length > 0) await change(run, () => run.world.changes.protect(group.name, fresh, false))
}
