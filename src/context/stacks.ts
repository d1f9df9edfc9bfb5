import { type ReleaseDocument, readRelease } from '../ami/records.ts'
import type { StackDefinition } from '../config.ts'
import { BakeError, messageOf } from '../errors.ts'
import type { Emit } from '../events.ts'
import { groupNamed } from '../fleet/deploy-plan.ts'
import { type Deployment, isFull, newest, readDeployments } from '../fleet/deployments.ts'
import { localServices, type ServiceState } from '../fleet/local-state.ts'
import { deploymentOpen } from '../fleet/rolling.ts'
import { type GroupState, groupState } from '../fleet/stack-state.ts'
import { readSwaps } from '../fleet/swap-record.ts'
import { DockerContainers } from '../io/containers.ts'
import type { Ledger } from '../io/ledger.ts'
import { PROCESSES, type Process } from '../scaling-processes.ts'
import { type OpenDeployWorld, openDeployWorld } from './deploy-world.ts'
import { openProject, type Project } from './project.ts'
import { filtersOf, groupStack, stackNamed } from './stack.ts'

/** What was swapped since the stack was deployed to. */
interface SwappedState {
  commit: string
  /** Digest by service. */
  images: Record<string, string>
  by: string
  at: number
}

/** What runs on one stack. `images`: of the release that is launched, when it is recorded. */
export type StackState = { stack: string } & (
  | { where: 'group'; state: GroupState; images?: ReleaseDocument['images']; swapped?: SwappedState }
  | { where: 'local'; services: ServiceState[] }
  | { where: 'targets'; instances: { id: string; state: string; image: string }[]; swapped?: SwappedState }
  /** It couldn't be looked at. */
  | { where: 'group' | 'local' | 'targets'; error: string }
)

interface Request {
  emit: Emit
  signal: AbortSignal
}

/** `bake stacks`: each stack of bake.yaml; one that can't be looked at leaves the others to be seen. */
export async function stacksOf(request: Request): Promise<StackState[]> {
  const project = await openProject()
  let opened: Promise<OpenDeployWorld> | undefined
  const world = () => {
    opened ??= openDeployWorld(project, request)
    return opened
  }
  try {
    return await Promise.all(project.config.stacks.map((stack) => stateOf(stack, project, world)))
  } finally {
    await (await opened?.catch(() => undefined))?.[Symbol.asyncDispose]()
  }
}

async function stateOf(
  { name: stack, where }: StackDefinition,
  { config, ledger }: Project,
  world: () => Promise<OpenDeployWorld>,
): Promise<StackState> {
  const kind = 'local' in where ? 'local' : 'targets' in where ? 'targets' : 'group'
  try {
    if ('targets' in where) {
      const found = await (await world()).instances.matching(filtersOf(where.targets))
      const there = found.filter(({ state }) => state !== 'terminated')
      const instances = there
        .map(({ id, state, imageId }) => ({ id, state, image: imageId }))
        .sort((a, b) => (a.id < b.id ? -1 : 1))
      return { stack, where: 'targets', instances, ...(await swappedOf(ledger, stack)) }
    }
    if ('local' in where)
      return { stack, where: 'local', services: await localServices({ project: config.project, stack }, new DockerContainers()) }
    const state = await groupState(stack, where.autoscalingGroup, await world())
    if (!state) return { stack, where: 'group', error: `there is no group ${where.autoscalingGroup}` }
    const { release } = state.launch ?? {}
    const recorded = release === undefined ? undefined : await readRelease(ledger, release)
    return { stack, where: 'group', state, ...(recorded && { images: recorded.images }), ...(await swappedOf(ledger, stack)) }
  } catch (error) {
    if (!(error instanceof BakeError)) throw error
    return { stack, where: kind, error: messageOf(error) }
  }
}

async function swappedOf(ledger: Ledger, stack: string): Promise<{ swapped?: SwappedState }> {
  const { current } = await readSwaps(ledger, stack)
  if (current === undefined || Object.keys(current.images).length === 0) return {}
  const { commit, images, by, at } = current
  return { swapped: { commit, images, by, at } }
}

/** `bake history`: newest first, stack by stack. Throws unknown_stack (exit 2). */
export async function deploymentsOf(ask: { stack?: string; limit: number }): Promise<Deployment[]> {
  const { config, ledger } = await openProject()
  const stacks = ask.stack === undefined ? config.stacks : [stackNamed(config, ask.stack)]
  const found = await Promise.all(stacks.map(({ name }) => readDeployments(ledger, name, ask.limit)))
  return found.flat().sort((a, b) => b.document.at - a.document.at)
}

/** What lets a group change its instances by itself. Instances that are launched still serve. */
const BY_ITSELF: Process[] = ['AlarmNotification', 'AZRebalance', 'HealthCheck', 'ReplaceUnhealthy', 'ScheduledActions']

/**
 * `bake autoscaling suspend|resume`: the processes that are suspended afterwards. Without `processes` it suspends what changes instances by itself, and resumes
 * all. Throws unknown_stack, stack_without_group, unknown_group, deployment_open (exit 2): a full deployment resumes what it has suspended, ec2_* (exit 4).
 */
export async function setProcesses(
  ask: { stack: string; on: boolean; processes: string[] },
  request: Request,
): Promise<{ stack: string; group: string; suspended: string[] }> {
  const project = await openProject()
  const { stack } = ask
  const { autoscalingGroup: group } = groupStack(project.config, stack)
  const processes = ask.processes.length > 0 ? PROCESSES.filter((process) => ask.processes.includes(process)) : undefined
  await using world = await openDeployWorld(project, request)
  await groupNamed(stack, group, world.groups)
  const open = await newest(world.ledger, stack)
  // What it has suspended would change the group under its hands; it resumes them itself.
  if (ask.on && open && !open.ended && isFull(open)) throw deploymentOpen(open)
  if (ask.on) await world.groups.resume(group, processes ?? [...PROCESSES])
  else await world.groups.suspend(group, processes ?? BY_ITSELF)
  return { stack, group, suspended: (await world.groups.get(group))?.suspended ?? [] }
}
