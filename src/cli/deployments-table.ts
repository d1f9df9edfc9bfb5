import { nameOf } from '../fleet/deploy-plan.ts'
import type { Deployment } from '../fleet/deployments.ts'
import { standing } from '../fleet/full-state.ts'
import { age, shortCommit } from './format.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

/** Newest first, a line each. */
export const deploymentsTable = (deployments: Deployment[], paint: Palette): string =>
  table(
    deployments,
    [
      { title: 'STACK', value: ({ document }) => document.stack, shrink: true },
      { title: '#', value: ({ n }) => String(n), right: true },
      { title: 'RELEASE', value: ({ document }) => nameOf(document.to), shrink: true },
      { title: 'COMMIT', value: ({ document }) => shortCommit(document.to.commit ?? '') },
      { title: 'FROM', value: ({ document }) => nameOf(document.from), shrink: true },
      {
        title: 'ENDED',
        value: endOf,
        shrink: true,
        paint: (text, { ended }) => (ended?.status === 'deployed' ? text : paint.yellow(text)),
      },
      { title: 'BY', value: ({ document }) => document.by, shrink: true },
      { title: 'WHEN', value: ({ document }) => age(document.at) },
    ],
    { columns: process.stdout.columns, paintTitle: paint.dim },
  ).join('\n')

function endOf(deployment: Deployment): string {
  const { ended, document } = deployment
  const step = standing(deployment)
  const kind = document.kind === 'rollback' ? 'rollback: ' : ''
  return `${kind}${ended?.status ?? 'running'}${step === undefined ? '' : `: ${step}`}`
}

/** What a deployment does, as --json has it. */
export const planOf = (document: Deployment['document']) => {
  const { kind, strategy, group, region, from, to } = document
  const how = document.strategy === 'rolling' ? { rolling: document.rolling } : { full: document.full }
  return { kind, strategy, group, region, from, to, ...how }
}

/** A deployment as --json has it. */
export const deploymentOf = (deployment: Deployment) => {
  const { n, document, ended, refresh } = deployment
  const step = standing(deployment)
  return {
    stack: document.stack,
    deployment: n,
    status: ended?.status ?? 'running',
    ...(step !== undefined && { step }),
    ...(ended?.reason !== undefined && { reason: ended.reason }),
    ...(refresh !== undefined && { refresh }),
    plan: planOf(document),
    by: document.by,
    began_at: document.at,
    ...(ended && { ended_at: ended.at }),
  }
}
