import { BakeError, EXIT, failed, unavailable } from '../errors.ts'
import { isPassing, isRefusal } from './aws-answers.ts'
import { nameOf } from './deploy-plan.ts'
import type { DeployWorld } from './deploy-world.ts'
import type { Ended, Full } from './deployments.ts'
import { migrateOnce } from './full-migrate.ts'
import { GivenUp, GroupGone, OUT_OF_REACH_MS, Run, Turned } from './full-run.ts'
import { awaitServed, drainOld, registerNew, reregisterOld } from './full-serve.ts'
import { canGoBack, commandOf, goesBack, isDown, mayBeUndone, reached, standing, undoneBy } from './full-state.ts'
import { checkNew, double, removeNew, restore, retireOld, suspend } from './full-steps.ts'
import { closeSwaps } from './swap-record.ts'

/**
 * Takes a `full` deployment to its end, from wherever it is and whichever way it is to go (docs/design.md §9). One process takes the steps, others follow it.
 * Throws migrate_failed, migrate_unknown, deploy_stuck (exit 3) when a person has to say what holds; ec2_*, ledger_*, lease_lost (exit 4) when it isn't known how a step ended, those that pass
 * only after a while: it goes on from there the next time.
 */
export async function runFull(deployment: Full, world: DeployWorld): Promise<Full> {
  const owners = new Set<string>()
  let at = deployment
  let [tries, since] = [0, 0]
  for (;;) {
    const before = stepsOf(at)
    let run: Run | undefined
    try {
      const begun = await Run.begin(at, world, owners)
      if ('ended' in begun) return begun.ended
      run = begun.run
      await using _release = run
      return await drive(run)
    } catch (error) {
      at = run?.at ?? at
      if (tries === 0 || stepsOf(at) > before) [tries, since] = [0, performance.now()]
      const patient = run?.outOfReach !== true && performance.now() - since <= OUT_OF_REACH_MS
      // Who followed another leaves it to that one.
      const own = run !== undefined || (!world.signal.aborted && owners.has(at.last('claimed')?.owner ?? ''))
      if (world.signal.aborted || !patient || !isPassingHere(error)) throw leaving(error, at, own ? world : undefined)
      world.tell('warning', `${at.document.stack}  ${error.message}: it is tried again`)
      await world.sleep(world.pollMs * Math.min(2 ** tries++, MOST_PATIENCE), world.signal).catch((aborted: unknown) => {
        throw leaving(aborted, at, world)
      })
    }
  }
}

/** Looks' time between tries: each of them is an entry of the log. */
const MOST_PATIENCE = 12

/** Of those that change something. */
const stepsOf = ({ steps }: Full): number => steps.filter(({ step }) => step !== 'claimed' && step !== 'released').length

/** So may the ledger, and with it the lease. */
const isPassingHere = (error: unknown): error is BakeError =>
  isPassing(error) ||
  (error instanceof BakeError && ['ledger_unreachable', 'ledger_throttled', 'lease_lost'].includes(error.code))

/** What leaves a deployment open says where it is left, and what goes on with it. `world` absent: another process takes the steps. */
function leaving(error: unknown, at: Full, world: DeployWorld | undefined): unknown {
  const { stack } = at.document
  // Those for a person say it themselves.
  const asked = error instanceof BakeError && error.exit === EXIT.failed
  if (!at.ended && !asked && world) tellLeft(at, world)
  if (!(error instanceof BakeError) || error.next !== undefined || error.code !== 'ec2_refused') return error
  const next = at.ended
    ? 'bake stacks    shows what runs where'
    : `mend what AWS refuses; ${commandOf(at.document)} goes on with it`
  return unavailable(error.code, error.message, { next, ids: { ...error.ids, stack }, cause: error.cause })
}

async function drive(run: Run): Promise<Full> {
  let why: unknown
  for (;;) {
    try {
      if (!goesBack(run.at)) return await forward(run)
      // Who said that migrate is undone may have ended before that.
      if (!run.at.has('rolling-back')) await run.record({ step: 'rolling-back' })
      const ended = await back(run)
      // Of a permission that lacks the action is told, and how to get it.
      if (isRefusal(why)) throw why
      return ended
    } catch (error) {
      if (error instanceof Turned) continue
      if (error instanceof GroupGone) return await end(run, { step: 'ended', status: 'failed', reason: error.message })
      if (error === why || !(error instanceof GivenUp || isRefusal(error))) throw error
      if (goesBack(run.at) || !canGoBack(run.at)) throw stuck(run.at, error)
      why = error
      run.tell('warning', `${error.message}: it goes back`)
      await run.record({ step: 'rolling-back', reason: error.message }).catch(unlessTurned)
    }
  }
}

/** docs/design.md §9, deploy full. */
async function forward(run: Run): Promise<Full> {
  const { stack, project } = run.document
  if (reached(run.at) === undefined) await closeSwaps({ stack, project, deployment: run.at.n }, run.world)
  await run.step('suspending', suspend)
  await run.step('doubling', double)
  const fresh = await run.step('checking', checkNew)
  await run.step('draining', drainOld, { step: 'draining', instances: fresh ?? [] })
  await migrateOnce(run)
  await run.step('registering', registerNew)
  await run.step('retiring', retireOld)
  await run.step('restoring', restore)
  return await end(run, { step: 'ended', status: 'deployed' })
}

async function back(run: Run): Promise<Full> {
  const { reason } = run.at.last('rolling-back')!
  const why = reason === undefined ? {} : { reason }
  if (reached(run.at) === undefined)
    return await end(run, { step: 'ended', status: 'rolled-back', reason: reason ?? 'before anything was begun' })
  if (run.at.has('draining')) await run.step('reregistering', reregisterOld)
  if (run.at.has('doubling')) await run.step('removing', removeNew)
  await run.step('restoring', restore)
  if (run.at.has('draining')) await awaitServed(run)
  return await end(run, { step: 'ended', status: 'rolled-back', ...why })
}

async function end(run: Run, step: Pick<Ended, 'step' | 'status' | 'reason'>): Promise<Full> {
  await run.record(step)
  return run.at
}

const unlessTurned = (error: unknown): void => {
  if (!(error instanceof Turned)) throw error
}

/** It can neither go on nor back. What AWS has refused is told as it is. */
function stuck(at: Full, error: Error): Error {
  if (!(error instanceof GivenUp)) return error
  const { n, document } = at
  const { stack, to } = document
  const down = isDown(at) ? ' in its outage' : ''
  const back = !goesBack(at) && mayBeUndone(at) ? `. ${undoneBy(document)}` : ''
  return failed('deploy_stuck', `the deployment of ${nameOf(to)} to ${stack} stands still${down}: ${error.message}`, {
    next: `mend what it waits for, then run the same command: it goes on from there${back}`,
    ids: { stack, deployment: String(n) },
  })
}

/** What a person should know who has stopped it, or whom it leaves. */
function tellLeft(at: Full, { tell }: DeployWorld): void {
  const { stack } = at.document
  const down = isDown(at) ? `, and no instance of ${stack} serves` : ''
  const back = canGoBack(at) ? `, bake rollback --stack ${stack} takes it back` : ''
  tell('warning', `${stack}  stopped where ${standing(at)}${down}: ${commandOf(at.document)} goes on with it${back}`)
}
