import { BakeError, failed, refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Refresh } from '../io/autoscaling-refreshes.ts'
import { isRefused } from './aws-answers.ts'
import { type DeployPlan, nameOf } from './deploy-plan.ts'
import { type DeployWorld, instancesByVersion } from './deploy-world.ts'
import { create, type Deployment, isFull, isRolling, newest, type Rolling, refresh as readOn, take } from './deployments.ts'
import { commandOf } from './full-state.ts'
import { endOf, findOwn, isActive, look, progress } from './refreshes.ts'
import { closeSwaps } from './swap-record.ts'

/** A refresh that was just begun is not always listed at once. */
const LOOKS_FOR_NEW = 5
/** An instance takes minutes: that nothing has changed is told too. */
const TELL_AGAIN_MS = 60_000

/** The deployment that is to be gone on with. Throws deployment_open or stack_changed (exit 2) when another was begun since the plan was made. */
export async function begin({ document, n }: DeployPlan, world: DeployWorld): Promise<Deployment> {
  const made = await create(world.ledger, n, document)
  if (made) {
    await failpoint('deploy-recorded')
    return made
  }
  const theirs = await newest(world.ledger, document.stack)
  const same = theirs?.n === n && isSame(theirs, document)
  if (same && (!theirs.ended || theirs.ended.status === 'deployed')) return theirs
  if (theirs && !theirs.ended) throw deploymentOpen(theirs)
  throw refused('stack_changed', `somebody else deployed to ${document.stack} since this was planned`, {
    next: 'bake stacks    shows what runs now; run the command again',
    ids: { stack: document.stack },
  })
}

export function deploymentOpen(open: Deployment): BakeError {
  const { document, n } = open
  const { to, stack, by, group } = document
  return refused(
    'deployment_open',
    `stack ${stack} is in the middle of a deployment of ${nameOf(to)} to group ${group}, begun by ${by}`,
    {
      next: `${isFull(open) ? commandOf(open.document) : `bake deploy --stack ${stack}${to.release === undefined ? '' : ` --release ${to.release}`}`} goes on with it, bake rollback --stack ${stack} takes it back`,
      ids: { stack, deployment: String(n) },
    },
  )
}

function isSame({ document }: Deployment, wanted: Pick<Deployment['document'], 'to' | 'group'>): boolean {
  const [is, asked] = [document.to.template, wanted.to.template]
  return document.group === wanted.group && is.id === asked.id && is.version === asked.version
}

/** An open deployment whose refresh ended while nobody watched is ended by whoever looks next. Nothing is begun. */
export async function settle(deployment: Deployment, world: DeployWorld): Promise<Deployment> {
  // Of a full deployment nothing is known but what its log says.
  if (deployment.ended || !isRolling(deployment)) return deployment
  const seen = await look(deployment, world)
  if ('gone' in seen)
    return await take(world.ledger, deployment, { step: 'ended', status: 'failed', reason: seen.gone }, world.by)
  const own = ownOf(deployment, seen.refreshes)
  const end = own && endOf(own)
  if (!end) return deployment
  const noted =
    deployment.refresh === undefined
      ? await take(world.ledger, deployment, { step: 'refresh', id: own.id }, world.by)
      : deployment
  return noted.ended ? noted : await take(world.ledger, noted, end, world.by)
}

const ownOf = (deployment: Rolling, refreshes: Refresh[]): Refresh | undefined =>
  deployment.refresh === undefined ? findOwn(deployment, refreshes) : refreshes.find(({ id }) => id === deployment.refresh)

/**
 * Takes a deployment to its end, from wherever it is and whichever way it is to go: several processes may, each step is taken once. Throws when it isn't known
 * how a step ended (ec2_*, exit 4): it goes on from there the next time.
 */
export async function runRolling(deployment: Rolling, world: DeployWorld): Promise<Rolling> {
  let at = deployment
  while (at.ended === undefined) {
    world.signal.throwIfAborted()
    if (at.refresh !== undefined) at = await follow(at, at.refresh, world)
    else if (at.has('starting')) at = at.has('rolling-back') ? await findOrEnd(at, world) : await findOrStart(at, world)
    else if (at.has('rolling-back')) at = await take(world.ledger, at, NEVER_BEGUN, world.by)
    else {
      const { stack, project } = at.document
      await closeSwaps({ stack, project, deployment: at.n }, world)
      at = await take(world.ledger, at, { step: 'starting' }, world.by)
    }
    await failpoint(at.refresh === undefined ? 'deploy-starting' : 'deploy-refresh')
  }
  return at
}

const NEVER_BEGUN = { step: 'ended', status: 'rolled-back', reason: 'before anything was begun' } as const

/** A refresh that was asked for by whoever died before noting its id is found by what it brings the group to. */
async function findOrStart(deployment: Rolling, world: DeployWorld): Promise<Rolling> {
  const { ledger, by } = world
  const { document } = deployment
  const seen = await look(deployment, world)
  if ('gone' in seen) return await take(ledger, deployment, { step: 'ended', status: 'failed', reason: seen.gone }, by)
  const found = findOwn(deployment, seen.refreshes)
  if (found) return await take(ledger, deployment, { step: 'refresh', id: found.id }, by)
  // Somebody may have gone on, or wants it back.
  const now = await readOn(ledger, deployment)
  if (now.steps.length > deployment.steps.length) return now
  let id: string
  try {
    id = await world.refreshes.start(document.group, { ...document.rolling, template: document.to.template })
  } catch (error) {
    if (isRefused(error, 'InstanceRefreshInProgress')) return await waitForOwn(deployment, world, error)
    // What is refused began nothing. Of anything else nobody knows.
    if (error instanceof BakeError && ['ec2_refused', 'ec2_denied', 'ec2_limit'].includes(error.code))
      await take(ledger, deployment, { step: 'ended', status: 'failed', reason: error.message }, by)
    throw error
  }
  await failpoint('deploy-started')
  const noted = await note(deployment, id, world)
  // It was ended while this one asked: what was begun after that goes back.
  if (noted.refresh !== id) await world.refreshes.rollback(document.group)
  return noted
}

/** Notes the id, also behind somebody's wish to have it back. */
async function note(deployment: Rolling, id: string, world: DeployWorld): Promise<Rolling> {
  let at = deployment
  while (at.refresh === undefined && at.ended === undefined) at = await take(world.ledger, at, { step: 'refresh', id }, world.by)
  return at
}

/** It is to go back: whether there is anything to take back. */
async function findOrEnd(deployment: Rolling, world: DeployWorld): Promise<Rolling> {
  return (await lookForOwn(deployment, world)) ?? (await take(world.ledger, deployment, NEVER_BEGUN, world.by))
}

async function waitForOwn(deployment: Rolling, world: DeployWorld, why: unknown): Promise<Rolling> {
  const found = await lookForOwn(deployment, world)
  if (found) return found
  const reason = 'another instance refresh goes on'
  const ended = await take(world.ledger, deployment, { step: 'ended', status: 'failed', reason }, world.by)
  if (ended.ended?.reason !== reason) return ended
  throw why
}

/** Looks for a while; also what somebody else noted. */
async function lookForOwn(deployment: Rolling, world: DeployWorld): Promise<Rolling | undefined> {
  for (let n = 0; n < LOOKS_FOR_NEW; n++) {
    if (n > 0) await world.sleep(world.pollMs, world.signal)
    const now = await readOn(world.ledger, deployment)
    if (now.steps.length > deployment.steps.length) return now
    const seen = await look(deployment, world)
    if ('gone' in seen)
      return await take(world.ledger, deployment, { step: 'ended', status: 'failed', reason: seen.gone }, world.by)
    const found = findOwn(deployment, seen.refreshes)
    if (found) return await take(world.ledger, deployment, { step: 'refresh', id: found.id }, world.by)
  }
  return undefined
}

/** Until it ends, or somebody else notes its end; turned round when it is to go back. */
async function follow(deployment: Rolling, id: string, world: DeployWorld): Promise<Rolling> {
  const { ledger, by, tell } = world
  let [told, toldAt, missed, turns] = ['', 0, 0, true]
  for (let at = deployment; ; at = await readOn(ledger, at)) {
    if (at.ended) return at
    const seen = await look(at, world)
    const found = 'gone' in seen ? undefined : seen.refreshes.find((each) => each.id === id)
    const end = found && endOf(found)
    if (end?.status === 'deployed') await warnOfOthers(at, world)
    if (end) return await take(ledger, at, end, by)
    missed = found ? 0 : missed + 1
    if ('gone' in seen || missed > LOOKS_FOR_NEW) {
      const reason = 'gone' in seen ? seen.gone : `instance refresh ${id} is gone`
      return await take(ledger, at, { step: 'ended', status: 'failed', reason }, by)
    }
    if (found && turns && at.has('rolling-back')) turns = await turn(at, found, world)
    const text = found ? progress(found) : `instance refresh ${id} is not to be seen yet`
    if (text !== told || Date.now() - toldAt >= TELL_AGAIN_MS) {
      tell('info', `${at.document.stack}  ${text}`)
      ;[told, toldAt] = [text, Date.now()]
    }
    await world.sleep(world.pollMs, world.signal)
  }
}

/** False: Auto Scaling can't, and goes on. */
async function turn({ document }: Deployment, { id, status }: Refresh, { refreshes, tell }: DeployWorld): Promise<boolean> {
  if (status === 'RollbackInProgress' || status === 'Cancelling') return true
  try {
    await refreshes.rollback(document.group)
  } catch (error) {
    if (!(error instanceof BakeError && error.code === 'ec2_refused')) throw error
    // It ended between two looks, or somebody else was faster.
    const now = (await refreshes.list(document.group)).find((each) => each.id === id)
    if (now === undefined || now.status === 'RollbackInProgress' || !isActive(now.status)) return true
    tell('warning', `${document.stack}  Auto Scaling can't turn it round, so it is followed to its end: ${error.message}`)
    return false
  }
  return true
}

/** Auto Scaling passes over protected and standby instances, if it is told to. */
async function warnOfOthers({ document }: Deployment, { groups, tell }: DeployWorld): Promise<void> {
  const group = await groups.get(document.group)
  const { version } = document.to.template
  for (const [other, count] of group ? instancesByVersion(group) : [])
    if (other !== String(version))
      tell('warning', `${document.stack}  ${count} of its instances are still of version ${other || 'none'}`)
}

/** Throws deploy_failed, deploy_rolled_back or deploy_cancelled (exit 3) for a deployment that didn't end where it should. */
export function checkDeployed({ document, ended, n, refresh }: Deployment): void {
  if (ended === undefined || ended.status === 'deployed') return
  const { stack, from, to } = document
  const why = ended.reason === undefined ? '' : `: ${ended.reason}`
  const said = {
    'rolled-back': `${nameOf(to)} was taken back, ${stack} runs ${nameOf(from)} again${why}`,
    cancelled: `somebody cancelled the deployment of ${nameOf(to)}, ${stack} may run both${why}`,
    failed: `${nameOf(to)} could not be deployed, ${stack} may run both${why}`,
  }[ended.status]
  throw failed(`deploy_${ended.status.replace('-', '_')}`, said, {
    next:
      ended.status === 'rolled-back'
        ? 'bake stacks    shows what runs where'
        : `bake rollback --stack ${stack}    goes back to ${nameOf(from)}; bake stacks    shows what runs where`,
    ids: { stack, deployment: String(n), ...(refresh !== undefined && { refresh }) },
  })
}
