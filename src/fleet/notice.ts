import type { End } from '../jobs/announce.ts'
import { code, duration, plain, slackPost } from '../jobs/notify-slack.ts'
import { nameOf } from './deploy-plan.ts'
import type { Deployment, Launch } from './deployments.ts'

/** What is told of a deployment's end (docs/notify.md): pure. */

const MARKS = { deployed: '✅', 'rolled-back': '⏪', failed: '❌' } as const

/** Undefined for one that goes on. */
export function deploymentEnd({ n, document, ended }: Deployment): End | undefined {
  if (ended === undefined) return undefined
  const { project, stack, group, region, kind, strategy, from, to, by, at } = document
  const event = eventOf(kind, ended.status)
  const runs = ended.status === 'rolled-back' ? from : ended.status === 'deployed' ? to : undefined
  const seconds = Math.max(0, ended.at - at) / 1000
  const said = {
    deployed: `runs *${plain(nameOf(to))}*`,
    'rolled-back': `is back at *${plain(nameOf(runs ?? to))}*`,
    failed: `could not be brought to *${plain(nameOf(to))}* (${ended.status})`,
  }[event]
  return {
    event,
    at: ended.at,
    group: `stack-${stack}`,
    notice: {
      // No full stop in it (Standard Webhooks), which a stack's name may have.
      id: `deployment_${stack.replaceAll('.', '-')}_${n}_${event}`,
      type: `deployment.${event}`,
      timestamp: new Date(ended.at).toISOString(),
      data: {
        ...{ version: 1, project, stack, group, region, deployment: n, kind, strategy, status: ended.status },
        ...{ from: launched(from), to: launched(to), ...(runs && { runs: launched(runs) }) },
        ...{ by, begunAt: new Date(at).toISOString(), seconds },
        ...(ended.reason !== undefined && { reason: ended.reason }),
      },
    },
    slack: slackPost({
      summary: `${MARKS[event]} *${plain(project)}/${plain(stack)}* ${said} after ${duration(seconds)}`,
      reason: ended.reason === undefined ? undefined : plain(ended.reason),
      details: [
        `from ${plain(nameOf(from))}`,
        ...(runs ? [code(runs.image)] : []),
        `by ${plain(by)}`,
        code(`bake history --stack ${stack}`),
      ].join(' · '),
    }),
  }
}

/** A rollback that went well, and a deployment that was taken back, have brought an earlier release back. */
function eventOf(kind: 'deploy' | 'rollback', status: NonNullable<Deployment['ended']>['status']) {
  if (status === 'deployed') return kind === 'deploy' ? 'deployed' : 'rolled-back'
  return status === 'rolled-back' && kind === 'deploy' ? 'rolled-back' : 'failed'
}

const launched = ({ release, commit, image, template }: Launch) => ({
  ...(release !== undefined && { release }),
  ...(commit !== undefined && { commit }),
  image,
  launchTemplate: { name: template.name, version: template.version },
})
