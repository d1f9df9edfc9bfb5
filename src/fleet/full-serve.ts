import { idsOf, newOf, oldOf } from './full-instances.ts'
import { GivenUp, GroupGone, type Run, type Waiting } from './full-run.ts'

/** The steps that decide who serves. Each looks at what there is first, as those of full-steps.ts do. */

/** Health checks of a load balancer take minutes at most: 10 × 300 s is the slowest that there is. */
const HEALTHY_MS = 55 * 60_000
/** Instances that are to serve again were well a while ago. */
const AGAIN_MS = 15 * 60_000
const SLACK_MS = 5 * 60_000

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
