import { type BakeError, failed, refused } from '../errors.ts'
import { nameOf } from './deploy-plan.ts'
import type { Deployment, Full } from './deployments.ts'
import { isFull } from './deployments.ts'
import { type FullStep, ORDER } from './full-record.ts'

/** What the log of a `full` deployment says of where it is. Nothing is looked at but the log. */

/** The step that was begun last. */
export const reached = ({ steps }: Full): FullStep | undefined =>
  steps.map(({ step }) => step).findLast((step): step is FullStep => (ORDER as readonly string[]).includes(step))

const WORDS: Record<FullStep, string> = {
  suspending: 'processes of the group are suspended',
  doubling: 'the group is doubled',
  checking: 'the new instances are checked',
  draining: 'the old instances are drained',
  migrating: 'migrate runs',
  registering: 'the new instances are registered',
  retiring: 'the old instances are terminated',
  reregistering: 'the old instances are registered again',
  removing: 'the new instances are terminated',
  restoring: 'sizes and processes are restored',
}
export const wordsOf = (step: FullStep): string => WORDS[step]

/** Nobody serves: the old are drained, the new not registered yet. */
const OUTAGE = new Set<FullStep | undefined>(['draining', 'migrating', 'registering', 'reregistering'])
export const isDown = (deployment: Full): boolean =>
  deployment.document.full.targetGroups.length > 0 && OUTAGE.has(reached(deployment))

/** `migrate` ended otherwise than well, and no person has said yet what holds. */
export function stoppedBy(deployment: Full): 'failed' | 'unknown' | undefined {
  const outcome = deployment.last('migrated')?.outcome
  return outcome === undefined || outcome === 'done' || deployment.has('answered') ? undefined : outcome
}

/** It goes back: somebody, or bake, has said so, or that the data is as the old release needs it. */
export const goesBack = (deployment: Full): boolean =>
  deployment.has('rolling-back') || deployment.last('answered')?.migrated === false

/** `migrate` has ended and the old instances are there: a person who makes the data as they need it can say so. */
export const mayBeUndone = (deployment: Full): boolean => deployment.has('migrated') && !deployment.has('retiring')

/** Where an open deployment is, for people; undefined: it has ended, or Auto Scaling knows (rolling). */
export function standing(deployment: Deployment): string | undefined {
  if (deployment.ended || !isFull(deployment)) return undefined
  const stopped = stoppedBy(deployment)
  if (stopped !== undefined && !goesBack(deployment))
    return stopped === 'failed' ? 'migrate failed' : 'nobody knows how migrate ended'
  const step = reached(deployment)
  return step === undefined ? 'nothing is begun yet' : wordsOf(step)
}

/** Whether the old release may serve again: before `migrate` and the end of the old ones, or when a person says that the data is as it needs it. */
export const canGoBack = (deployment: Full): boolean =>
  !deployment.has('retiring') && (!deployment.has('migrating') || deployment.last('answered')?.migrated === false)

/** Exit 2. */
export function cannotGoBack(deployment: Full): BakeError {
  const { n, document } = deployment
  const { stack, to } = document
  const retired = deployment.has('retiring')
  const again = `${commandOf(document)} goes on with it`
  return refused(
    retired ? 'deploy_past_return' : 'migrate_begun',
    retired
      ? `the old instances of ${stack} are being terminated: the deployment of ${nameOf(to)} only goes forward`
      : `migrate of ${nameOf(to)} has begun on ${stack}: whether the old release can work with the data is not bake's to say`,
    {
      next:
        stoppedBy(deployment) === undefined
          ? `${again}; then bake rollback --stack ${stack} deploys ${nameOf(document.from)} anew${mayBeUndone(deployment) ? `. ${undoneBy(document)}` : ''}`
          : `look at the data. Is it as ${nameOf(document.from)} needs it: bake rollback --stack ${stack} --migrate-undone; as ${nameOf(to)} does: ${commandOf(document)} --migrate-done`,
      ids: { stack, deployment: String(n) },
    },
  )
}

/** For people: the way back after a migration. */
export const undoneBy = ({ stack, from }: Full['document']): string =>
  `Once the data is as ${nameOf(from)} needs it, bake rollback --stack ${stack} --migrate-undone takes it back`

export const commandOf = ({ stack, to }: Full['document']): string =>
  `bake deploy --stack ${stack}${to.release === undefined ? '' : ` --release ${to.release}`} --strategy full`

/** Exit 3: nobody but a person can go on. */
export function migrateStopped(deployment: Full): BakeError {
  const { n, document } = deployment
  const { stack, from, to, full } = document
  const stopped = stoppedBy(deployment) ?? 'unknown'
  const { reason } = deployment.last('migrated') ?? {}
  const instance = deployment.last('migrating')?.instance ?? ''
  const why = reason === undefined ? '' : `: ${reason}`
  return failed(
    `migrate_${stopped}`,
    `${
      stopped === 'failed' ? `migrate of ${nameOf(to)} failed` : `nobody knows how migrate of ${nameOf(to)} ended`
    } on ${instance}${why}. It is not run again, and ${full.targetGroups.length > 0 ? `no instance of ${stack} serves` : `${stack} stands still`}`,
    {
      next: `look at the data. Is it as ${nameOf(to)} needs it: ${commandOf(document)} --migrate-done; as ${nameOf(from)} does: bake rollback --stack ${stack} --migrate-undone`,
      ids: { stack, deployment: String(n), instance },
    },
  )
}
