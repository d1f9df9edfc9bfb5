import type { Prepared } from '../context/deploy.ts'
import type { Emit } from '../events.ts'
import { nameOf } from '../fleet/deploy-plan.ts'
import type { Deployment, FullDocument, Launch, RollingDocument } from '../fleet/deployments.ts'
import { standing } from '../fleet/full-state.ts'
import { askYes } from './ask-yes.ts'
import { deploymentOf, planOf } from './deployments-table.ts'
import { age, duration, shortCommit } from './format.ts'
import { type Palette, palette } from './style.ts'

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
  /** Ends the live view. */
  giveTerminal(): void
  signal: AbortSignal
}

/** Shows what a deployment would do, asks, and does it. The document of --json. Throws what `go` throws, interrupted (exit 130), confirmation_needed (exit 2). */
export async function runPrepared({ plan, open, turns, done, go }: Prepared, terminal: Terminal): Promise<object> {
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
  const lines = (paint: Palette) => (open ? openLines(open, turns === true) : planLines(plan!, paint))
  if (dryRun) {
    for (const line of lines(terminal.paint)) log(line)
    return { ...planned, status: open ? 'running' : 'planned' }
  }
  terminal.giveTerminal()
  for (const text of lines(palette(false))) emit({ type: 'notice', level: 'info', text })
  if (!yes) {
    await terminal.settled()
    const { signal, json } = terminal
    const from = { input: process.stdin, output: process.stderr, signal, json, otherwise: `${command} --yes` }
    await askYes(turns ? 'Take it back?' : open ? 'Go on with it?' : 'Go on?', from)
  }
  const began = performance.now()
  try {
    const ended = await go()
    const seconds = (performance.now() - began) / 1000
    const runs = runsAfter(ended)
    log(`${stack}  ${nameOf(runs)}  ${runs.image}  after ${duration(seconds)}`)
    return { ...deploymentOf(ended), seconds }
  } catch (error) {
    // Whoever takes the steps of a full one tells itself where it stands.
    if (terminal.signal.aborted && document.strategy === 'rolling')
      emit({ type: 'notice', level: 'warning', text: leftRunning(stack, command) })
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
  const { from, to, kind } = document
  const { min, desired, max } = group
  const facts: [string, string][] = [
    [kind === 'deploy' ? 'deploy' : 'roll back', `${document.stack} (group ${group.name}, ${document.region})`],
    ['from', launchText(from)],
    ['to', launchText(to)],
    ['instances', `${group.instances.length}, desired ${desired} (${min} to ${max})`],
    ...(document.strategy === 'full' ? fullFacts(document) : [rollingFact(document)]),
  ]
  return facts.map(([name, value]) => `${paint.dim(name.padEnd(9))}  ${value}`)
}

const rollingFact = ({ rolling }: RollingDocument): [string, string] => [
  'rolling',
  [
    `${rolling.minHealthy} to ${rolling.maxHealthy} % in service, back by itself`,
    ...(rolling.skipMatching ? ['what is right stays'] : []),
    ...(rolling.warmupSeconds === undefined ? [] : [`warm-up ${duration(rolling.warmupSeconds)}`]),
    ...(rolling.bakeSeconds === undefined ? [] : [`watched for ${duration(rolling.bakeSeconds)}`]),
    ...(rolling.checkpoints.length === 0 ? [] : [`waits at ${rolling.checkpoints.join(', ')} %`]),
    ...(rolling.alarms.length === 0 ? [] : [`alarms ${rolling.alarms.join(', ')}`]),
  ].join(', '),
]

/** The steps, and when nobody serves. */
function fullFacts({ full, to }: FullDocument): [string, string][] {
  const { sizes, targetGroups, migrate, asked } = full
  const names = targetGroups.map(({ name }) => name).join(', ')
  const drainSeconds = Math.max(0, ...targetGroups.map((each) => each.drainSeconds))
  const most = Math.max(sizes.max, sizes.desired * 2)
  const raised = most > sizes.max ? `, at most ${most} meanwhile` : ''
  const checked = asked ? "their services' own health checks" : "EC2's status checks"
  return [
    ['full', `${sizes.desired} more of ${nameOf(to)} beside the old${raised}; they must pass ${checked}`],
    names === ''
      ? ['drain', 'no target group: nothing is drained, and the old instances run on until they are terminated']
      : ['outage', `from here on: ${names} without the old instances, up to ${duration(drainSeconds)} for what is under way`],
    [
      'migrate',
      migrate ? `once, on one new instance: ${migrate.service}: ${migrate.command.join(' ')}` : 'nothing (no hooks.migrate)',
    ],
    ...(names === '' ? [] : [['register', `the new in ${names}; the outage ends when they are healthy`] as [string, string]]),
    ['then', 'the old are terminated; sizes and processes as they are now'],
  ]
}

function openLines(deployment: Deployment, turns: boolean): string[] {
  const { document, n } = deployment
  const { stack, from, to, by, at } = document
  const where = standing(deployment)
  const begun = `deployment ${n} of ${nameOf(to)} to ${stack} is under way, begun by ${by} ${age(at)}${where === undefined ? '' : `: ${where}`}`
  return [turns ? `${begun}: ${stack} is to run ${nameOf(from)} again` : begun]
}

const launchText = ({ release, commit, image, template }: Launch): string =>
  [
    ...(release === undefined ? [] : [release]),
    ...(commit === undefined ? [] : [`(${shortCommit(commit)})`]),
    image,
    `${template.name} version ${template.version}`,
  ].join('  ')
