import type { StackState } from '../context/stacks.ts'
import { age, shortCommit, shortDigest } from './format.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

interface Row {
  stack: string
  runs: string
  from: string
  instances: string
  note: string
}

/** A line for each stack, or for each of its services on this machine. */
export const stacksTable = (stacks: StackState[], paint: Palette): string =>
  table(
    stacks.flatMap(rowsOf),
    [
      { title: 'STACK', value: ({ stack }) => stack, shrink: true },
      { title: 'RUNS', value: ({ runs }) => runs, shrink: true },
      { title: 'FROM', value: ({ from }) => from, shrink: true },
      { title: 'INSTANCES', value: ({ instances }) => instances },
      { title: 'NOTE', value: ({ note }) => note, shrink: true, least: 20, paint: (text) => paint.yellow(text) },
    ],
    { columns: process.stdout.columns, paintTitle: paint.dim },
  ).join('\n')

function rowsOf(stack: StackState): Row[] {
  const { stack: name } = stack
  const none = { stack: name, runs: '', from: '', instances: '', note: '' }
  if ('error' in stack) return [{ ...none, note: stack.error }]
  if (stack.where === 'targets') {
    const { instances } = stack
    const running = instances.filter(({ state }) => state === 'running').length
    const from = [...new Set(instances.map(({ image }) => image))].join(', ')
    return [{ ...none, from, instances: `${running} of ${instances.length} running`, note: swappedText(stack) ?? '' }]
  }
  if (stack.where === 'local')
    return stack.services.length === 0
      ? [{ ...none, from: 'this machine', note: `nothing runs: bake swap --stack ${name}` }]
      : stack.services.map(({ service, image, running, health }) => ({
          stack: name,
          runs: service,
          from: shortDigest(image),
          instances: 'this machine',
          note: running ? (health === undefined || health === 'healthy' ? '' : health) : 'does not run',
        }))
  const { launch, instances, desired, drift, suspended, deployment } = stack.state
  const healthy = instances.filter((instance) => instance.healthy && instance.lifecycle === 'InService').length
  const notes = [
    ...(deployment?.status === 'running'
      ? [
          `${deployment.release ?? 'a deployment'} is being deployed${deployment.step === undefined ? '' : `: ${deployment.step}`}`,
        ]
      : []),
    ...[swappedText(stack) ?? []].flat(),
    ...drift,
    ...(suspended.length > 0 ? [`suspended: ${suspended.join(', ')}`] : []),
  ]
  const commit = launch?.commit === undefined ? '' : ` (${shortCommit(launch.commit)})`
  return [
    {
      stack: name,
      runs: launch ? `${launch.release ?? 'not of bake'}${commit}` : '?',
      from: launch ? [launch.image, `${launch.template.name} v${launch.template.version}`].filter(Boolean).join(', ') : '',
      instances: `${healthy} of ${desired} well`,
      note: notes.join('; '),
    },
  ]
}

function swappedText({ swapped }: Extract<StackState, { where: 'group' | 'targets' }>): string | undefined {
  if (swapped === undefined) return undefined
  const images = Object.entries(swapped.images).map(([service, digest]) => `${service} ${shortDigest(digest)}`)
  return `swapped to ${shortCommit(swapped.commit)} by ${swapped.by} ${age(swapped.at)}: ${images.join(', ')}`
}
