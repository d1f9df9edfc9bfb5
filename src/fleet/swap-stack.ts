import { type BakeError, failed, refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import { swapParameter } from '../swap-document.ts'
import { nameOf } from './deploy-plan.ts'
import { newest } from './deployments.ts'
import { type InstanceOutcome, type Order, runOrders } from './swap-orders.ts'
import { checkArchitectures, checkDocument, type Members, membersOf, type Wanted } from './swap-plan.ts'
import { appendSwap, readSwaps, type SwapLog, swapText } from './swap-record.ts'
import type { SwapStackWorld } from './swap-world.ts'

export interface StackSwapped {
  instances: InstanceOutcome[]
  /** Started while the swap went on: they run what the record says. */
  starting: string[]
}

/** Instances that join while a swap goes on are asked too, so often at most. */
const ROUNDS = 3

/** What was looked at before anything is changed. */
export interface Ready {
  members: Members
  /** Of the document. */
  version: string
}

/**
 * Whether a stack can be swapped: also before its images are built, which takes longer. Throws no_instances, agent_missing, document_missing,
 * document_altered, deployment_open or stack_busy (exit 2), ec2_* (exit 4).
 */
export async function checkStack(world: SwapStackWorld): Promise<Ready> {
  const [members, version] = await Promise.all([
    membersOf(world),
    checkDocument(world),
    checkNoDeployment(world),
    readSwaps(world.ledger, world.stack).then((log) => checkFree(log, world)),
  ])
  return { members, version }
}

/**
 * Replaces images on every instance of a stack at once, each back to what it was when the new one isn't well; `atomic`: all of them, when one isn't. What the
 * stack runs from now on is recorded, and told to instances that join. Throws wrong_architecture, deployment_open or stack_busy (exit 2) before anything is
 * changed, ec2_* (exit 4).
 */
export async function swapStack(
  wanted: Wanted[],
  { members: { ready, starting }, version }: Ready,
  { commit, atomic }: { commit: string; atomic: boolean },
  world: SwapStackWorld,
): Promise<StackSwapped> {
  const [log] = await Promise.all([
    readSwaps(world.ledger, world.stack),
    checkArchitectures(wanted, [...ready, ...starting], world),
    checkNoDeployment(world),
  ])
  const begun = await begin(wanted, commit, log, world)
  await failpoint('swap-begun')
  const services = Object.fromEntries(wanted.map(({ service, digest }) => [service, digest]))
  const order: Order = { services, atomic, version }
  let outcomes = await runOrders(
    ready.map((instance) => ({ instance, order })),
    world,
  )
  for (let round = 1; round < ROUNDS; round++) {
    const joined = await joinedSince(outcomes, world)
    if (joined.length === 0) break
    outcomes = [
      ...outcomes,
      ...(await runOrders(
        joined.map((instance) => ({ instance, order })),
        world,
      )),
    ]
  }
  await failpoint('swap-ran')
  if (atomic && outcomes.some(({ why }) => why !== undefined)) outcomes = await putBack(outcomes, version, world)
  await end(outcomes, { wanted, commit, log: begun }, world)
  const there = new Set(outcomes.map(({ instance }) => instance))
  return { instances: outcomes, starting: starting.filter((id) => !there.has(id)) }
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
      next: 'swap when it has ended: bake history    shows it',
      ids: { stack, deployment: String(last.n) },
    },
  )
}

async function checkFree({ last }: SwapLog, { ledger, stack, leaseMs }: SwapStackWorld): Promise<void> {
  if (last?.state === 'begun' && (await isAlive(ledger, last.owner, leaseMs))) throw busy(stack, last.by)
}

/** The record's number is taken before anything is asked of an instance: one swap of a stack at a time. */
async function begin(wanted: Wanted[], commit: string, log: SwapLog, world: SwapStackWorld): Promise<SwapLog> {
  const { ledger, stack, owner, by } = world
  await checkFree(log, world)
  if (log.last?.state === 'begun')
    world.tell('warning', `${stack}  a swap by ${log.last.by} was not ended: its images are replaced, or it is repeated`)
  const images = Object.fromEntries(wanted.map(({ service, digest }) => [service, digest]))
  if (!(await appendSwap(ledger, { stack, n: log.next }, { state: 'begun', owner, commit, images }, by)))
    throw busy(stack, 'somebody else')
  return { ...log, next: log.next + 1 }
}

const busy = (stack: string, by: string): BakeError =>
  refused('stack_busy', `stack ${stack} is being swapped by ${by}`, { next: 'wait for it, then swap again', ids: { stack } })

async function joinedSince(outcomes: InstanceOutcome[], world: SwapStackWorld): Promise<string[]> {
  const asked = new Set(outcomes.map(({ instance }) => instance))
  const others = (await world.instances()).filter((id) => !asked.has(id))
  return others.length === 0 ? [] : [...(await world.commands.online(others))].sort()
}

/** All or nothing: whoever runs the new ones gets back what it ran. */
async function putBack(outcomes: InstanceOutcome[], version: string, world: SwapStackWorld): Promise<InstanceOutcome[]> {
  const before = ({ services }: InstanceOutcome) =>
    Object.fromEntries(
      services.flatMap((each) => (each.status === 'swapped' && each.before ? [[each.service, each.before]] : [])),
    )
  const swapped = outcomes.filter((outcome) => Object.keys(before(outcome)).length > 0)
  if (swapped.length === 0) return outcomes
  world.tell('warning', `${world.stack}  not well everywhere: ${swapped.length} instances go back`)
  const back = await runOrders(
    swapped.map((outcome) => ({ instance: outcome.instance, order: { services: before(outcome), atomic: false, version } })),
    world,
  )
  return outcomes.map((outcome) => {
    const undone = back.find(({ instance }) => instance === outcome.instance)
    if (undone === undefined) return outcome
    const services = undone.services.map((each) => ({
      ...each,
      status: each.status === 'swapped' ? ('kept' as const) : each.status,
    }))
    return { ...undone, services, why: undone.why ?? 'another instance of the stack was not well' }
  })
}

interface Ending {
  wanted: Wanted[]
  commit: string
  log: SwapLog
}

/** Records what the stack runs, then tells it to those that join. What isn't well everywhere leaves the record as it was. */
async function end(outcomes: InstanceOutcome[], { wanted, commit, log }: Ending, world: SwapStackWorld): Promise<void> {
  const { ledger, stack, by, project } = world
  const isNew = ({ services }: InstanceOutcome, { service, digest }: Wanted) =>
    services.some((each) => each.service === service && each.digest === digest && ['swapped', 'unchanged'].includes(each.status))
  const everywhere = wanted.filter((one) => outcomes.every((outcome) => isNew(outcome, one)))
  const images = { ...log.current?.images, ...Object.fromEntries(everywhere.map(({ service, digest }) => [service, digest])) }
  const inputs = [...new Set([...(log.current?.inputs ?? []), ...outcomes.flatMap((each) => each.inputs ?? [])])].sort()
  const well = outcomes.every(({ why }) => why === undefined)
  const status = well ? 'swapped' : everywhere.length > 0 ? 'partly' : 'failed'
  const won = await appendSwap(ledger, { stack, n: log.next }, { state: 'ended', status, commit, images, inputs }, by)
  if (!won) {
    world.tell(
      'warning',
      `${stack}  something else was begun on it meanwhile: what it runs is not recorded; bake stacks shows it`,
    )
    return
  }
  await failpoint('swap-recorded')
  if (everywhere.length > 0) await world.parameters.put(swapParameter(project, stack), swapText({ images, inputs }))
}
