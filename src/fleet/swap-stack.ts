import { type BakeError, failed, refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import { swapParameter } from '../swap-document.ts'
import { nameOf } from './deploy-plan.ts'
import { newest } from './deployments.ts'
import { type InstanceOutcome, type Order, runOrders } from './swap-orders.ts'
import { checkArchitectures, checkDocument, type Members, membersOf, type Wanted } from './swap-plan.ts'
import { appendSwap, merged, readSwaps, type SwapEntry, type SwapLog, swapText } from './swap-record.ts'
import type { SwapStackWorld } from './swap-world.ts'

export interface StackSwapped {
  instances: InstanceOutcome[]
  /** They had no agent yet: those that ask for the record when it is there run what it says. */
  starting: string[]
}

/** Instances that join while a swap goes on are asked too, so often at most. */
const ROUNDS = 3

/** What was looked at before anything is changed. */
export interface Ready {
  members: Members
  /** Of the document. */
  version: string
  log: SwapLog
}

/**
 * Whether a stack can be swapped: also before its images are built, which takes longer. Throws no_instances, agent_missing, document_missing,
 * document_altered, deployment_open or stack_busy (exit 2), ec2_* (exit 4).
 */
export async function checkStack(world: SwapStackWorld): Promise<Ready> {
  const [members, version, log] = await Promise.all([
    membersOf(world),
    checkDocument(world),
    readFree(world),
    checkNoDeployment(world),
  ])
  return { members, version, log }
}

/**
 * Replaces images on every instance of a stack at once, each back to what it was when the new one isn't well; `atomic`: all of them, when one isn't. What the
 * stack runs from now on is recorded, and told to instances that join. Throws wrong_architecture, deployment_open or stack_busy (exit 2) before anything is
 * changed, ec2_* (exit 4).
 */
export async function swapStack(
  wanted: Wanted[],
  { members: { ready, starting }, version, log }: Ready,
  { commit, atomic }: { commit: string; atomic: boolean },
  world: SwapStackWorld,
): Promise<StackSwapped> {
  const services = Object.fromEntries(wanted.map(({ service, digest }) => [service, digest]))
  await checkArchitectures(wanted, [...ready, ...starting], world)
  const begun = await begin({ commit, images: services }, log, world)
  await failpoint('swap-begun')
  try {
    // Whoever begins one looks for the other after that: one of the two sees it. Instances may have ended while images were built.
    const [there] = await Promise.all([world.instances(), checkNoDeployment(world)])
    const order: Order = { services, atomic, version }
    let outcomes = await runOrders(
      ready.filter((id) => there.includes(id)),
      order,
      world,
    )
    for (let round = 1; round < ROUNDS; round++) {
      const joined = await joinedSince(outcomes, begun, world)
      if (joined.length === 0) break
      outcomes = [...outcomes, ...(await runOrders(joined, order, world))]
    }
    await failpoint('swap-ran')
    if (atomic && outcomes.some(({ why }) => why !== undefined)) outcomes = await putBack(outcomes, { version, begun }, world)
    await end(outcomes, { wanted, commit, log: begun }, world)
    // They may have asked for the record just before it was there.
    const late = outcomes.every(({ why }) => why === undefined)
      ? await joinedSince(outcomes, { next: begun.next + 1 }, world)
      : []
    if (late.length > 0) outcomes = [...outcomes, ...(await runOrders(late, order, world))]
    const asked = new Set(outcomes.map(({ instance }) => instance))
    const unasked = starting.filter((id) => !asked.has(id))
    if (unasked.length > 0)
      world.tell('warning', `${unasked.join(', ')} still start: they may run what they were started with; swap again in a minute`)
    return { instances: outcomes, starting: unasked }
  } catch (error) {
    // Nobody has to wait for this one's heartbeat to grow old.
    await record(begun, { status: 'failed', commit, images: {}, inputs: [] }, world).catch(() => {})
    throw error
  }
}

/** What a swap that was not well everywhere is told as. */
export function stackSwapFailed(stack: string, { instances }: StackSwapped): BakeError | undefined {
  const bad = instances.filter(({ why }) => why !== undefined)
  if (bad.length === 0) return undefined
  const lines = bad.map(({ instance, why }) => `${instance}: ${why}`)
  return failed('swap_failed', `stack ${stack}, ${bad.length} of ${instances.length} instances: ${lines.join('\n')}`, {
    next: 'correct it and swap again; bake stacks    shows what runs where',
    ids: { stack },
  })
}

/** A deployment replaces the very instances. */
async function checkNoDeployment({ ledger, stack }: SwapStackWorld): Promise<void> {
  const last = await newest(ledger, stack)
  if (last === undefined || last.ended) return
  throw refused(
    'deployment_open',
    `stack ${stack} is in the middle of a deployment of ${nameOf(last.document.to)}, begun by ${last.document.by}`,
    {
      next: `bake stacks    shows it, and notes its end; swap then`,
      ids: { stack, deployment: String(last.n) },
    },
  )
}

async function readFree({ ledger, stack, leaseMs }: SwapStackWorld): Promise<SwapLog> {
  const log = await readSwaps(ledger, stack)
  if (log.last?.state === 'begun' && (await isAlive(ledger, log.last.owner, leaseMs))) throw busy(stack, log.last.by)
  return log
}

/** The record's number is taken before anything is asked of an instance: one swap of a stack at a time. */
async function begin(
  what: { commit: string; images: Record<string, string> },
  seen: SwapLog,
  world: SwapStackWorld,
): Promise<SwapLog> {
  const { ledger, stack, owner, by } = world
  // Since it was looked at others may have come and gone.
  for (const log of [seen, undefined]) {
    const { next, last, current } = log ?? (await readFree(world))
    if (!(await appendSwap(ledger, { stack, n: next }, { state: 'begun', owner, ...what }, by))) continue
    if (last?.state === 'begun')
      world.tell('warning', `${stack}  a swap by ${last.by} was not ended: its images are replaced, or it is repeated`)
    return { next: next + 1, ...(current && { current }) }
  }
  throw busy(stack, 'somebody else')
}

/** The end of it; `images` and `inputs` come on top of what is recorded. False when something else was begun. */
const record = (
  { current, next }: SwapLog,
  ended: Pick<Extract<SwapEntry, { state: 'ended' }>, 'status' | 'commit' | 'images' | 'inputs'>,
  { ledger, stack, by }: SwapStackWorld,
): Promise<boolean> => appendSwap(ledger, { stack, n: next }, { state: 'ended', ...ended, ...merged(current, ended) }, by)

const busy = (stack: string, by: string): BakeError =>
  refused('stack_busy', `stack ${stack} is being swapped by ${by}`, { next: 'wait for it, then swap again', ids: { stack } })

/** Whether nobody has begun anything on the stack since: a deployment, or a swap that took this one for dead. */
const isOurs = async ({ next }: Pick<SwapLog, 'next'>, { ledger, stack }: SwapStackWorld): Promise<boolean> =>
  (await readSwaps(ledger, stack)).next === next

async function joinedSince(outcomes: InstanceOutcome[], begun: Pick<SwapLog, 'next'>, world: SwapStackWorld): Promise<string[]> {
  const asked = new Set(outcomes.map(({ instance }) => instance))
  const others = (await world.instances()).filter((id) => !asked.has(id))
  if (others.length === 0 || !(await isOurs(begun, world))) return []
  return [...(await world.commands.online(others))].sort()
}

/** All or nothing: whoever runs the new ones gets back what it ran. */
async function putBack(
  outcomes: InstanceOutcome[],
  { version, begun }: { version: string; begun: SwapLog },
  world: SwapStackWorld,
): Promise<InstanceOutcome[]> {
  const before = ({ services }: InstanceOutcome) =>
    Object.fromEntries(
      services.flatMap((each) => (each.status === 'swapped' && each.before ? [[each.service, each.before]] : [])),
    )
  const swapped = outcomes.filter((outcome) => Object.keys(before(outcome)).length > 0)
  if (swapped.length === 0 || !(await isOurs(begun, world))) return outcomes
  world.tell('warning', `${world.stack}  not well everywhere: ${swapped.length} instances go back`)
  const alike = [...Map.groupBy(swapped, (outcome) => JSON.stringify(before(outcome))).values()]
  const back = await Promise.all(
    alike.map((group) =>
      runOrders(
        group.map(({ instance }) => instance),
        { services: before(group[0]!), atomic: false, version },
        world,
      ),
    ),
  )
  const undone = new Map(back.flat().map((outcome) => [outcome.instance, outcome]))
  return outcomes.map((outcome) => {
    const now = undone.get(outcome.instance)
    if (now === undefined) return outcome
    if (now.why !== undefined) return { ...now, why: `could not be put back, the new images may run: ${now.why}` }
    const services = now.services.map((each) => ({ ...each, status: 'kept' as const }))
    return { ...now, services, why: 'another instance of the stack was not well' }
  })
}

interface Ending {
  wanted: Wanted[]
  commit: string
  log: SwapLog
}

/** Records what the stack runs, then tells it to those that join. What isn't well everywhere leaves the record as it was. */
async function end(outcomes: InstanceOutcome[], { wanted, commit, log }: Ending, world: SwapStackWorld): Promise<void> {
  const { stack, project } = world
  const isNew = ({ services }: InstanceOutcome, { service, digest }: Wanted) =>
    services.some((each) => each.service === service && each.digest === digest && ['swapped', 'unchanged'].includes(each.status))
  const everywhere = wanted.filter((one) => outcomes.every((outcome) => isNew(outcome, one)))
  const overlay = {
    images: Object.fromEntries(everywhere.map(({ service, digest }) => [service, digest])),
    inputs: everywhere.length === 0 ? [] : outcomes.flatMap((each) => each.inputs ?? []),
  }
  const well = outcomes.every(({ why }) => why === undefined)
  const status = well ? 'swapped' : everywhere.length > 0 ? 'partly' : 'failed'
  const won = await record(log, { status, commit, ...overlay }, world)
  if (!won) {
    world.tell(
      'warning',
      `${stack}  something else was begun on it meanwhile: what it runs is not recorded; bake stacks shows it`,
    )
    return
  }
  await failpoint('swap-recorded')
  if (everywhere.length === 0) return
  const name = swapParameter(project, stack)
  await world.parameters.put(name, swapText(merged(log.current, overlay)))
  // A deployment that closed the record in between has deleted it already.
  if (!(await isOurs({ next: log.next + 1 }, world))) await world.parameters.delete(name)
}
