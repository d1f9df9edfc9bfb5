import type { CommandResult } from '../io/ssm-commands.ts'
import { BUSY, NO_PROGRAM, SWAP_DOCUMENT } from '../swap-document.ts'
import { isCommandEnd, isPassing, isRefused } from './aws-answers.ts'
import { type InstanceReport, readReport, type ServiceReport } from './swap-report.ts'
import type { SwapStackWorld } from './swap-world.ts'

/** What an instance is asked to run. */
export interface Order {
  /** Digest by service. */
  services: Record<string, string>
  atomic: boolean
  version: string
}

export interface InstanceOutcome extends InstanceReport {
  instance: string
  seconds: number
  /** Not all of it is as was asked for. */
  why?: string
}

/** An instance that has not taken it by then is gone, or cut off. */
const DELIVERY_SECONDS = 60
const LAST_LINES = 5

/** An instance that ended while it was asked is a command "in progress" for an hour: the stack is looked at as well. */
const LOOK_MS = 10_000
/** AWS may be out of reach for so long. */
const PATIENCE_MS = 5 * 60_000
/** What SSM takes in one command: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html */
const MOST_AT_ONCE = 50

/**
 * Has every instance do what it is asked, all at once: no instance's start waits for another's end. Each is told as it ends. The signal ends the watching,
 * not what was sent.
 */
export async function runOrders(instances: string[], order: Order, world: SwapStackWorld): Promise<InstanceOutcome[]> {
  const parts = Array.from({ length: Math.ceil(instances.length / MOST_AT_ONCE) }, (_, n) =>
    instances.slice(n * MOST_AT_ONCE, (n + 1) * MOST_AT_ONCE),
  )
  const outcomes = (await Promise.all(parts.map((part) => runOrder(part, order, world)))).flat()
  return outcomes.sort((a, b) => (a.instance < b.instance ? -1 : 1))
}

async function runOrder(instances: string[], order: Order, world: SwapStackWorld): Promise<InstanceOutcome[]> {
  world.signal.throwIfAborted()
  let command: string
  try {
    command = await send(instances, order, world)
  } catch (error) {
    // One that is gone has SSM refuse all of them.
    if (!isRefused(error, 'InvalidInstanceId')) throw error
    const [first = '', ...others] = instances
    if (others.length > 0) return (await Promise.all(instances.map((each) => runOrder([each], order, world)))).flat()
    return [{ instance: first, services: [], seconds: 0, why: LOST.Undeliverable! }]
  }
  return await follow(command, instances, order, world)
}

async function send(instances: string[], order: Order, { commands, project, stack }: SwapStackWorld): Promise<string> {
  const Services = Object.entries(order.services)
    .map(([service, digest]) => `${service}=${digest}`)
    .join(' ')
  const [id = ''] = await commands.send({
    document: SWAP_DOCUMENT,
    version: order.version,
    instances,
    parameters: { Services, Mode: order.atomic ? 'atomic' : 'each' },
    comment: `bake swap ${project}/${stack}`,
    deliverySeconds: DELIVERY_SECONDS,
    // Sent twice, the second waits on the instance and finds the first one's images; but who is to go back must say what it ran.
    repeatable: !order.atomic,
  })
  return id
}

async function follow(command: string, instances: string[], order: Order, world: SwapStackWorld): Promise<InstanceOutcome[]> {
  const began = world.now()
  const seconds = () => (world.now() - began) / 1000
  const waiting = new Set(instances)
  const outcomes: InstanceOutcome[] = []
  const end = (outcome: InstanceOutcome) => {
    waiting.delete(outcome.instance)
    outcomes.push(outcome)
    tell(outcome, world)
  }
  for (const instance of instances) world.row(instance, { type: 'phase', phase: 'swap', state: 'started', t: began })
  let [answeredAt, lookedAt] = [began, began]
  for (;;) {
    try {
      for (const { instance, status } of await world.commands.invocations(command)) {
        if (!isCommandEnd(status) || !waiting.has(instance)) continue
        const result = await world.commands.result(command, instance)
        // The two lists may differ for a moment.
        if (isCommandEnd(result.status)) end(outcomeOf(result, order, seconds()))
      }
      if (world.now() - lookedAt > LOOK_MS) {
        lookedAt = world.now()
        const there = new Set(await world.instances())
        for (const instance of [...waiting].filter((each) => !there.has(each)))
          end({ instance, services: [], seconds: seconds(), why: 'the instance is gone' })
      }
      answeredAt = world.now()
    } catch (error) {
      if (!isPassing(error) || world.now() - answeredAt > PATIENCE_MS) throw error
    }
    if (waiting.size === 0) return outcomes
    await world.sleep(world.pollMs, world.signal)
  }
}

function outcomeOf(
  { instance, status, details, code, stdout, stderr }: CommandResult,
  { services: asked }: Order,
  seconds: number,
): InstanceOutcome {
  const report = readReport(stdout)
  const bad = report.services.filter(({ why }) => why !== undefined)
  const silent = Object.keys(asked).filter((service) => !report.services.some((each) => each.service === service))
  if (bad.length === 0 && silent.length === 0 && status === 'Success') return { instance, ...report, seconds }
  const why =
    bad.length > 0 ? bad.map(whyOf).join('; ') : (CODES[code] ?? [lost(status, details), ...lastLines(stderr)].join('\n  | '))
  return { instance, ...report, seconds, why }
}

/** Of the document and of the program on the instance. */
const CODES: Record<number, string> = {
  [NO_PROGRAM]: 'its machine image was baked before bake could swap: bake and deploy a new one',
  [BUSY]: 'another swap goes on there, for ten minutes by now',
  2: 'it has no such service: swap others with --image, or bake and deploy a new machine image',
}

const lost = (status: string, detail: string): string =>
  LOST[detail.replaceAll(' ', '')] ?? `${status}${detail === status || detail === '' ? '' : ` (${detail})`}`

/** https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
const LOST: Record<string, string> = {
  DeliveryTimedOut: 'its agent did not take the command: the instance is gone, or cut off',
  Undeliverable: 'its agent can not be reached: the instance is gone, or cut off',
}

const lastLines = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
    .slice(-LAST_LINES)

const whyOf = ({ service, status, why }: ServiceReport): string =>
  `${service}: ${status === 'kept' ? 'what ran before runs again' : 'not well, and neither is what ran before'}: ${why}`

function tell({ instance, services, seconds, why }: InstanceOutcome, { row, now }: SwapStackWorld): void {
  const t = now()
  row(instance, { type: 'phase', phase: 'swap', state: why === undefined ? 'done' : 'failed', t, seconds })
  const said = services.map(({ service, status }) => `${service} ${status}`).join(', ')
  row(instance, { type: 'note', level: why === undefined ? 'info' : 'warning', text: why ?? said, t })
}
