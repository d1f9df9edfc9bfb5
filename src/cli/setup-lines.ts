import type { SetupPlan, Step } from '../setup.ts'
import type { Palette } from './style.ts'

const SIGNS = { create: '+', change: '~' } as const

/** One line per resource that is made or changed, one below for each setting that differs. */
export function setupLines({ steps, resources }: SetupPlan, paint: Palette): string[] {
  if (steps.length === 0) return [`nothing to do: ${counted(resources)} as they should be`]
  const width = Math.max(...steps.map(({ kind }) => kind.length))
  const colour = { create: paint.green, change: paint.yellow } as const
  return steps.flatMap(({ action, kind, name, differences }) => [
    `${colour[action](SIGNS[action])} ${action} ${kind.padEnd(width)}  ${name}${action === 'create' ? `  ${paint.dim(brief(differences))}` : ''}`,
    ...(action === 'change' ? differences.map(({ setting, from, to }) => `    ${setting}: ${text(from)} → ${text(to)}`) : []),
  ])
}

/** `2 to create, 1 to change` */
export function setupSummary(steps: Step[]): string {
  const count = (action: Step['action']) => steps.filter((step) => step.action === action).length
  return [
    [count('create'), 'to create'],
    [count('change'), 'to change'],
  ]
    .filter(([number]) => number !== 0)
    .map((words) => words.join(' '))
    .join(', ')
}

const brief = (differences: Step['differences']): string =>
  differences.map(({ setting, to }) => (typeof to === 'object' ? setting : `${setting} ${text(to)}`)).join(', ')

const text = (value: unknown): string =>
  value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value)

/** `5 queues, 1 bucket, 2 repositories` */
function counted(resources: SetupPlan['resources']): string {
  const counts = Map.groupBy(resources, ({ kind }) => kind)
  return [...counts].map(([kind, all]) => `${all.length} ${all.length === 1 ? kind : plural(kind)}`).join(', ')
}

const plural = (kind: string): string => (kind.endsWith('y') ? `${kind.slice(0, -1)}ies` : `${kind}s`)
