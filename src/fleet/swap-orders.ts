import type { CommandResult } from '../io/ssm-commands.ts'
import { BUSY, NO_PROGRAM, SWAP_DOCUMENT } from '../swap-document.ts'
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
const ENDED = new Set(['Success', 'Cancelled', 'TimedOut', 'Failed'])
const LAST_LINES = 5

/**
 * Has every instance do what it is asked, all at once: no instance's start waits for another's end. Each is told as it ends. The signal ends the watching,
 * not what was sent.
 */
export async function runOrders(instances: string[], order: Order, world: SwapStackWorld): Promise<InstanceOutcome[]> {
  const { commands, project, stack, signal } = world
  signal.throwIfAborted()
  const Services = Object.entries(order.services)
    .map(([service, digest]) => `${service}=${digest}`)
    .join(' ')
  const ids = await commands.send({
    document: SWAP_DOCUMENT,
    version: order.version,
    instances,
    parameters: { Services, Mode: order.atomic ? 'atomic' : 'each' },
    comment: `bake swap ${project}/${stack}`,
    deliverySeconds: DELIVERY_SECONDS,
    // Sent twice, the second waits on the instance, and finds the first one's images.
    repeatable: true,
  })
  const began = world.now()
  const waiting = new Set(instances)
  for (const instance of instances) world.row(instance, { type: 'phase', phase: 'swap', state: 'started', t: began })
  const outcomes: InstanceOutcome[] = []
  for (;;) {
    for (const id of ids) {
      const ended = (await commands.invocations(id)).filter(({ instance, status }) => ENDED.has(status) && waiting.has(instance))
      outcomes.push(
        ...(await Promise.all(
          ended.map(async ({ instance }) => {
            waiting.delete(instance)
            const outcome = outcomeOf(await commands.result(id, instance), order, (world.now() - began) / 1000)
            tell(outcome, world)
            return outcome
          }),
        )),
      )
    }
    if (waiting.size === 0) return outcomes.sort((a, b) => (a.instance < b.instance ? -1 : 1))
    await world.sleep(world.pollMs, signal)
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
  [BUSY]: 'another swap goes on there',
}

const lost = (status: string, detail: string): string =>
  LOST[detail.replaceAll(' ', '')] ?? `${status}${detail === status || detail === '' ? '' : ` (${detail})`}`

/** https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
const LOST: Record<string, string> = {
  DeliveryTimedOut: 'its agent did not take the command: the instance is gone, or cut off',
  Undeliverable: 'its agent can not be reached: the instance is gone, or cut off',
  Terminated: 'the instance was terminated',
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
