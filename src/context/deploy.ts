import type { ListedRelease } from '../ami/list.ts'
import type { Rolling } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import {
  checkGroup,
  type DeployAsk,
  type DeployPlan,
  type DeployStrategy,
  planDeploy,
  type Target,
} from '../fleet/deploy-plan.ts'
import { Deployment, type Full, isFull, newest } from '../fleet/deployments.ts'
import { answer, checkAnswerable } from '../fleet/full-answer.ts'
import type { Migrate } from '../fleet/full-plan.ts'
import { canGoBack, cannotGoBack, goesBack } from '../fleet/full-state.ts'
import { turnRound, wayBack } from '../fleet/rollback.ts'
import { begin, checkDeployed, deploymentOpen, settle } from '../fleet/rolling.ts'
import { runDeployment } from '../fleet/run-deployment.ts'
import { bakeAmi } from './ami.ts'
import { type OpenDeployWorld, openDeployWorld } from './deploy-world.ts'
import { openProject, type Project } from './project.ts'
import { releaseNamed } from './releases.ts'
import { groupStack, stackNamed } from './stack.ts'

export interface DeployRequest {
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

/** What is about to be done: `go` does it, or goes on with what was begun. */
export interface Prepared extends AsyncDisposable {
  /** Absent: a deployment that is under way is gone on with, or turned round. */
  plan?: DeployPlan
  /** One that was begun before. */
  open?: Deployment
  /** `open` is to be taken back. */
  turns?: true
  /** It was done before: nothing is left to do. */
  done?: Deployment
  /** Throws deploy_failed, deploy_rolled_back or deploy_cancelled (exit 3). */
  go(): Promise<Deployment>
}
type Steps = Omit<Prepared, keyof AsyncDisposable>

/**
 * `bake deploy`: what it would do. A release without a machine image is baked first, unless `dryRun`. Throws what bake ami and planDeploy throw, unknown_stack,
 * stack_without_group, not_baked, deployment_open (exit 2).
 */
export async function prepareDeploy(
  ask: { stack: string; release: string; strategy: DeployStrategy; dryRun: boolean; migrateDone: boolean },
  request: DeployRequest,
): Promise<Prepared> {
  return await prepared(ask.stack, request, async ({ project, world, group, rolling, migrate }) => {
    const { stack, strategy } = ask
    // What is under way decides before a bake is paid for, and by its own strategy: a full one has suspended what a plan needs.
    const open = await openDeployment(world, stack)
    if (open && isFull(open)) return goingOn(open, ask, group, world)
    if (ask.migrateDone) checkAnswerable(open, true, stack)
    const { template } = await checkGroup({ stack, group, strategy }, world)
    if (open) return following(open, ask.release, group, world)
    if (migrate && strategy === 'rolling')
      world.tell('warning', `${stack}  hooks.migrate is not run: only --strategy full has a time when it may`)
    const target = await targetOf(project, ask.release, { template: template.name, request, bake: !ask.dryRun })
    return await planned({ stack, kind: 'deploy', strategy, group, rolling, target, ...(migrate && { migrate }) }, world)
  })
}

/** With a person's word on how `migrate` ended, if that is given. */
function goingOn(open: Full, ask: { release: string; migrateDone: boolean }, group: string, world: OpenDeployWorld): Steps {
  const steps = following(open, ask.release, group, world)
  if (!ask.migrateDone) return steps
  checkAnswerable(open, true, open.document.stack)
  return { open, go: async () => await finish(await answer(open, true, world), world) }
}

/** `bake rollback`: to a release that was baked, or to what was there before. Throws nothing_to_roll_back, not_baked and what planDeploy throws. */
export async function prepareRollback(
  ask: { stack: string; to?: string; migrateUndone: boolean },
  request: DeployRequest,
): Promise<Prepared> {
  return await prepared(ask.stack, request, async ({ project, world, group, rolling }) => {
    const { stack, to } = ask
    const open = await openDeployment(world, stack)
    if (ask.migrateUndone) checkAnswerable(open, false, stack)
    if (open && isFull(open) && to === undefined) return turning(open, ask.migrateUndone, world)
    if (open && isFull(open)) throw deploymentOpen(open)
    // Whatever has to be planned is a rolling deployment.
    const strategy = 'rolling'
    const { template } = await checkGroup({ stack, group, strategy }, world)
    const back = { kind: 'rollback' as const, strategy, stack, group, rolling: inAHurry(rolling) } as const
    if (to !== undefined) {
      if (open) return following(open, to, group, world)
      const target = await targetOf(project, to, { template: template.name, request, bake: false })
      return await planned({ ...back, target }, world)
    }
    const way = await wayBack(stack, world)
    if (way.kind === 'target') return await planned({ ...back, target: way.target }, world)
    const { deployment } = way
    if (way.kind === 'done') return { done: deployment, go: async () => deployment }
    if (way.kind === 'follow') return { open: deployment, go: () => finish(deployment, world) }
    const turned = () => told(deployment, () => turnRound(deployment, world), world)
    return { open: deployment, turns: true, go: async () => checkTurned(await turned()) }
  })
}

/** Throws migrate_begun or deploy_past_return (exit 2) before anybody is asked. */
function turning(open: Full, undone: boolean, world: OpenDeployWorld): Steps {
  if (!undone && !goesBack(open) && !canGoBack(open)) throw cannotGoBack(open)
  const go = async () => {
    const at = undone ? await answer(open, false, world) : open
    return checkTurned(await told(at, () => turnRound(at, world), world))
  }
  return { open, turns: true, go }
}

/** An alarm that goes off is why one goes back: with it in the request Auto Scaling would refuse to begin. Nor is there time for checkpoints. */
const inAHurry = ({ checkpointSeconds: _, bakeSeconds: __, ...rolling }: Rolling): Rolling => ({
  ...rolling,
  alarms: [],
  checkpoints: [],
})

interface Prepare {
  project: Project
  world: OpenDeployWorld
  group: string
  rolling: Rolling
  migrate?: Migrate
}

async function prepared(name: string, request: DeployRequest, prepare: (with_: Prepare) => Promise<Steps>): Promise<Prepared> {
  const project = await openProject()
  const { autoscalingGroup: group, rolling } = groupStack(project.config, name)
  const { migrate } = stackNamed(project.config, name)
  const world = await openDeployWorld(project, request)
  try {
    const steps = await prepare({ project, world, rolling, group, ...(migrate && { migrate }) })
    return { ...steps, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() }
  } catch (error) {
    await world[Symbol.asyncDispose]()
    throw error
  }
}

async function planned(ask: DeployAsk, world: OpenDeployWorld): Promise<Steps> {
  const plan = await planDeploy(ask, world).catch(async (error: unknown) => {
    if (!(error instanceof BakeError && error.code === 'refresh_in_progress')) throw error
    // Of a deployment that somebody began since one was looked for, and that may have ended since.
    return (await openDeployment(world, ask.stack)) ?? (await planDeploy(ask, world))
  })
  if (plan instanceof Deployment) return following(plan, ask.target.release, ask.group, world)
  return { plan, go: async () => await finish(await begin(plan, world), world) }
}

async function finish(deployment: Deployment, world: OpenDeployWorld): Promise<Deployment> {
  const ended = await told(deployment, () => runDeployment(deployment, world), world)
  checkDeployed(ended)
  return ended
}

/** Whichever way it ends, `notify:` is told. */
async function told(deployment: Deployment, run: () => Promise<Deployment>, world: OpenDeployWorld): Promise<Deployment> {
  try {
    const ended = await run()
    await world.announce(ended)
    return ended
  } catch (error) {
    const left = await newest(world.ledger, deployment.document.stack).catch(() => undefined)
    if (left?.n === deployment.n) await world.announce(left)
    throw error
  }
}

function checkTurned(deployment: Deployment): Deployment {
  if (deployment.ended?.status === 'deployed')
    throw refused('deployed_already', 'it was deployed before it could be turned round', {
      next: `bake rollback --stack ${deployment.document.stack}    deploys what was there before`,
    })
  if (deployment.ended?.status !== 'rolled-back') checkDeployed(deployment)
  return deployment
}

/** One that is under way; what ended while nobody watched is not. */
async function openDeployment(world: OpenDeployWorld, stack: string): Promise<Deployment | undefined> {
  const last = await newest(world.ledger, stack)
  const settled = last && (await settle(last, world))
  // An end that nobody watched, or whose watcher was killed before he told of it.
  if (settled?.ended) await world.announce(settled)
  return settled?.ended ? undefined : settled
}

/** Throws deployment_open (exit 2) when it goes elsewhere. */
function following(open: Deployment, release: string | undefined, group: string, world: OpenDeployWorld): Steps {
  if (open.document.to.release !== release || open.document.group !== group) throw deploymentOpen(open)
  return { open, go: () => finish(open, world) }
}

interface Wanted {
  /** What the group launches from. */
  template: string
  bake: boolean
  request: DeployRequest
}

/** A release's machine image for a group: the one whose launch template the group launches from. Throws not_baked (exit 2). */
async function targetOf(project: Project, release: string, wanted: Wanted): Promise<Target> {
  const { template } = wanted
  const { signal } = wanted.request
  const look = () => releaseNamed(project, release, signal).catch(unlessUnknown)
  const before = await look()
  const found = before && pick(before, template)
  if (found) return found
  if (wanted.bake) {
    const { failure } = await bakeAmi(
      project,
      { release, verify: true, rebake: false, keepFailed: false, makeDefault: false },
      { ...wanted.request, refreshBase: false },
    )
    if (failure !== undefined) throw failure
    const after = await look()
    const baked = after && pick(after, template)
    if (baked) return baked
  }
  throw refused('not_baked', `release ${release} has no proven machine image with a launch template version`, {
    next: wanted.bake
      ? 'name machine.launch_template in bake.yaml, then bake ami'
      : `bake ami --release ${release}    bakes and proves it`,
    ids: { release },
  })
}

const unlessUnknown = (error: unknown): undefined => {
  if (!(error instanceof Error && 'code' in error && error.code === 'unknown_release')) throw error
}

function pick({ release, machines }: ListedRelease, template: string): Target | undefined {
  const usable = machines.flatMap(({ document, there, launch }) =>
    there && launch && document.image.kind === 'ami' ? [{ image: document.image.id, template: launch }] : [],
  )
  const fits = usable.find((each) => each.template.name === template) ?? usable[0]
  return fits && { release: release.name, commit: release.commit, ...fits }
}
