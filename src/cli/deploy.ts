import type { Prepared } from '../context/deploy.ts'
import type { Emit } from '../events.ts'
import { nameOf } from '../fleet/deploy-plan.ts'
import type { Deployment, Launch } from '../fleet/deployments.ts'
import { askYes } from './ask-yes.ts'
import { age, duration, shortCommit } from './format.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

interface Terminal {
  stack: string
  /** As a person would type it again. */
  command: string
  yes: boolean
  dryRun: boolean
  json: boolean
  log(line: string): void
  paint: Palette
  emit: Emit
  settled(): Promise<void>
  signal: AbortSignal
}

/** Shows what a deployment would do, asks, and does it. The document of --json. Throws what `go` throws, interrupted (exit 130), confirmation_needed (exit 2). */
export async function runPrepared({ plan, open, done, go }: Prepared, terminal: Terminal): Promise<object> {
  const { stack, command, dryRun, yes, emit, log } = terminal
  const document = (plan ?? open ?? done)!.document
  const planned = { stack, plan: planOf(document) }
  if (done) {
    log(`${stack} runs ${nameOf(runsAfter(done))} again already`)
    return { ...deploymentOf(done), status: 'current' }
  }
  if (plan?.current) {
    log(`${stack} runs ${nameOf(document.to)} already`)
    return { ...planned, status: 'current' }
  }
  const lines = open ? openLines(open) : planLines(plan!, terminal.paint)
  for (const line of lines) log(line)
  if (dryRun) return { ...planned, status: open ? 'running' : 'planned' }
  if (!yes) {
    await terminal.settled()
    const { signal, json } = terminal
    const from = { input: process.stdin, output: process.stderr, signal, json, otherwise: `${command} --yes` }
    await askYes('Go on?', from)
  }
  const began = performance.now()
  try {
    const ended = await go()
    const seconds = (performance.now() - began) / 1000
    const runs = runsAfter(ended)
    log(`${stack}  ${nameOf(runs)}  ${runs.image}  after ${duration(seconds)}`)
    return { ...deploymentOf(ended), seconds }
  } catch (error) {
    if (terminal.signal.aborted) emit({ type: 'notice', level: 'warning', text: leftRunning(stack, command) })
    throw error
  }
}

const runsAfter = ({ ended, document }: Deployment): Launch => (ended?.status === 'rolled-back' ? document.from : document.to)

const leftRunning = (stack: string, command: string): string => {
  const rollback = `bake rollback --stack ${stack}`
  const again = command === rollback ? '' : `, ${rollback} takes it back`
  return `what Auto Scaling has begun goes on without bake: ${command} goes on with it${again}; bake history shows it`
}

function planLines({ document, group }: NonNullable<Prepared['plan']>, paint: Palette): string[] {
  const { from, to, rolling, kind } = document
  const { min, desired, max } = group
  const facts: [string, string][] = [
    [kind === 'deploy' ? 'deploy' : 'roll back', `${document.stack} (group ${group.name}, ${document.region})`],
    ['from', launchText(from)],
    ['to', launchText(to)],
    ['instances', `${group.instances.length}, desired ${desired} (${min} to ${max})`],
    [
      'rolling',
      [
        `${rolling.minHealthy} to ${rolling.maxHealthy} % in service, back by itself`,
        ...(rolling.skipMatching ? ['what is right stays'] : []),
        ...(rolling.warmupSeconds === undefined ? [] : [`warm-up ${duration(rolling.warmupSeconds)}`]),
        ...(rolling.bakeSeconds === undefined ? [] : [`watched for ${duration(rolling.bakeSeconds)}`]),
        ...(rolling.checkpoints.length === 0 ? [] : [`waits at ${rolling.checkpoints.join(', ')} %`]),
        ...(rolling.alarms.length === 0 ? [] : [`alarms ${rolling.alarms.join(', ')}`]),
      ].join(', '),
    ],
  ]
  return facts.map(([name, value]) => `${paint.dim(name.padEnd(9))}  ${value}`)
}

const openLines = ({ document, n }: Deployment): string[] => [
  `deployment ${n} of ${nameOf(document.to)} to ${document.stack} is under way, begun by ${document.by} ${age(document.at)} ago`,
]

const launchText = ({ release, commit, image, template }: Launch): string =>
  [
    ...(release === undefined ? [] : [release]),
    ...(commit === undefined ? [] : [`(${shortCommit(commit)})`]),
    image,
    `${template.name} version ${template.version}`,
  ].join('  ')

/** Newest first, a line each. */
export const historyTable = (deployments: Deployment[], paint: Palette): string =>
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

const planOf = ({ kind, strategy, group, region, from, to, rolling }: Deployment['document']) => ({
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
