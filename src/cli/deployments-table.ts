import { nameOf } from '../fleet/deploy-plan.ts'
import type { Deployment } from '../fleet/deployments.ts'
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
        value: ({ ended, document }) => `${document.kind === 'rollback' ? 'rollback: ' : ''}${ended?.status ?? 'running'}`,
        paint: (text, { ended }) => (ended?.status === 'deployed' ? text : paint.yellow(text)),
      },
      { title: 'BY', value: ({ document }) => document.by, shrink: true },
      { title: 'WHEN', value: ({ document }) => age(document.at) },
    ],
    { columns: process.stdout.columns, paintTitle: paint.dim },
  ).join('\n')

/** What a deployment does, as --json has it. */
export const planOf = ({ kind, strategy, group, region, from, to, rolling }: Deployment['document']) => ({
  ...{ kind, strategy, group, region, from, to, rolling },
})

/** A deployment as --json has it. */
export const deploymentOf = ({ n, document, ended, refresh }: Deployment) => ({
  stack: document.stack,
  deployment: n,
  status: ended?.status ?? 'running',
  ...(ended?.reason !== undefined && { reason: ended.reason }),
  ...(refresh !== undefined && { refresh }),
  plan: planOf(document),
  by: document.by,
  began_at: document.at,
  ...(ended && { ended_at: ended.at }),
})
