import type { Refresh } from '../io/autoscaling-refreshes.ts'
import { isRefused } from './aws-answers.ts'
import type { DeployWorld } from './deploy-world.ts'
import type { Deployment, Ended, Rolling } from './deployments.ts'

/** What Auto Scaling says of a group's instance refreshes, as a deployment reads it. */

/** Those that still change the group: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html */
const ACTIVE = new Set(['Pending', 'InProgress', 'Cancelling', 'RollbackInProgress', 'Baking'])
export const isActive = (status: string): boolean => ACTIVE.has(status)

const ENDED: Record<string, Ended['status']> = {
  Successful: 'deployed',
  Failed: 'failed',
  RollbackFailed: 'failed',
  Cancelled: 'cancelled',
  RollbackSuccessful: 'rolled-back',
}

export function endOf({ status, reason }: Refresh): Pick<Ended, 'step' | 'status' | 'reason'> | undefined {
  const ended = ENDED[status]
  return ended && { step: 'ended', status: ended, ...(reason !== undefined && { reason }) }
}

const WORDS: Record<string, string> = {
  Pending: 'about to begin',
  InProgress: 'instances are replaced',
  Baking: 'all instances are replaced, and watched',
  Cancelling: 'somebody cancels it',
  RollbackInProgress: 'going back',
}

/** While it goes back the percentage sinks: it is of what is still new. */
export function progress({ status, percent, left, reason }: Refresh): string {
  const how =
    status === 'RollbackInProgress'
      ? `${percent} % still new`
      : `${percent} %, ${left === 1 ? '1 instance' : `${left} instances`} left`
  return `${WORDS[status] ?? status}, ${how}${reason === undefined ? '' : `: ${reason}`}`
}

/** The newest refresh that is younger than the plan and brings the group where the deployment does: no clocks are compared. */
export function findOwn({ document }: Rolling, refreshes: Refresh[]): Refresh | undefined {
  const known = refreshes.findIndex(({ id }) => id === document.before)
  const { id, version } = document.to.template
  const younger = known < 0 ? refreshes : refreshes.slice(0, known)
  return younger.find(({ template }) => template?.id === id && template.version === String(version))
}

/** All of the group, newest first; `gone`: there is no such group any more. Throws ec2_* (exit 4). */
export async function look(
  { document }: Deployment,
  { refreshes }: DeployWorld,
): Promise<{ refreshes: Refresh[] } | { gone: string }> {
  try {
    return { refreshes: await refreshes.list(document.group) }
  } catch (error) {
    if (isRefused(error, 'ValidationError') && /not found/i.test(String(error)))
      return { gone: `group ${document.group} is gone` }
    throw error
  }
}
