import { PhaseSteps } from '../ami/steps.ts'
import type { CliEvent, MachineEvent, MachineOutcome } from '../events.ts'
import { duration, size } from './format.ts'
import { type ImageStory, tell } from './story.ts'
import type { Palette } from './style.ts'
import { printable } from './width.ts'

/** What the machine image of a command is called in its story, unless it has a name because there are several. */
const MACHINE = 'machine'

/** An event as plain text without the machine's name. */
export function machineText(event: MachineEvent, paint: Palette): string {
  if (event.type === 'note') return event.level === 'warning' ? paint.yellow(`warning: ${event.text}`) : `note: ${event.text}`
  if (event.type === 'line') return `${event.phase} | ${printable(event.text)}`
  const { phase, state, seconds = 0 } = event
  if (state === 'started') return phase
  return state === 'done' ? `${phase} … ${duration(seconds)}` : paint.red(`${phase} … failed after ${duration(seconds)}`)
}

/** The one line that stays of it. */
export function machineSummary({ status, reference = '', sizeBytes, seconds, error }: MachineOutcome, paint: Palette): string {
  if (status === 'failed') return `${paint.red(`failed after ${duration(seconds)}:`)} ${(error?.message ?? '').split('\n', 1)[0]}`
  const did = { found: 'already baked', baked: `baked in ${duration(seconds)}`, proven: `proven in ${duration(seconds)}` }[status]
  return `${paint.bold(reference)}  ${did}${sizeBytes === undefined ? '' : ` · ${size(sizeBytes)}`}`
}

/** Folds machine events into a story as images have one: phases are its steps. */
export class MachineStory {
  readonly #steps = new PhaseSteps()

  tell(story: ImageStory, event: MachineEvent, now: number): void {
    for (const each of this.#steps.of(event)) tell(story, each, now)
    if (event.type !== 'note') story.phase = event.phase
  }
}

/** Whose story an event belongs to. */
export const subjectOf = (event: Exclude<CliEvent, { type: 'notice' }>): string =>
  'image' in event ? event.image : (event.machine ?? MACHINE)
