import type { ImageOutcome, StoryEvent } from '../events.ts'
import { duration, shortDigest, size } from './format.ts'
import { machineSummary } from './machine-lines.ts'
import { failedStep, type ImageStory, type Outcome, oneLine } from './story.ts'
import type { Palette } from './style.ts'
import { printable } from './width.ts'

/** An internal step (BuildKit's own loading and exporting) is worth a line when it took this long. */
const SLOW_INTERNAL_SECONDS = 2

/** An event as plain text without its image's name; undefined for what isn't worth a line. */
export function eventText(event: StoryEvent, paint: Palette): string | undefined {
  switch (event.type) {
    case 'phase':
      return [event.phase, event.worker === undefined ? undefined : `on ${event.worker}`, event.detail].filter(Boolean).join(' ')
    case 'retry':
      return paint.yellow(
        `retrying in ${event.inSeconds} s (${event.attempt} of ${event.of} failed): ${event.code}: ${oneLine(event.message)}`,
      )
    case 'note':
      return event.level === 'warning' ? paint.yellow(`warning: ${event.text}`) : `note: ${event.text}`
    case 'warning':
      return paint.yellow(`#${event.step + 1} warning: ${oneLine(event.text)}`)
    case 'clipped':
      return paint.yellow(`#${event.step + 1} log clipped by the engine`)
    case 'line':
      return `#${event.step + 1} | ${printable(event.text)}`
    case 'step':
      return stepText(event, paint)
  }
}

function stepText(event: StoryEvent & { type: 'step' }, paint: Palette): string | undefined {
  const { state, seconds = 0 } = event
  const quiet = event.internal && state !== 'failed' && (state !== 'done' || seconds < SLOW_INTERNAL_SECONDS)
  if (quiet) return undefined
  const name = `#${event.step + 1} ${oneLine(event.name)}`
  if (state === 'started') return name
  if (state === 'done') return `${name} … ${duration(seconds)}`
  if (state === 'failed') return paint.red(`${name} … failed after ${duration(seconds)}`)
  return `${name} … ${state}`
}

/** The one line that stays of an image, without its name. */
export function summary(outcome: Outcome, paint: Palette): string {
  if (outcome.status === 'found' || outcome.status === 'baked' || outcome.status === 'proven')
    return machineSummary(outcome, paint)
  // A failed machine image is told as a failed image is.
  const { status, seconds, sizeBytes, pushedBytes, steps, error, ...rest } = outcome as ImageOutcome
  if (status === 'failed')
    return `${paint.red(`failed after ${duration(seconds)}:`)} ${error === undefined ? 'unknown error' : error.message}`
  if (status === 'cancelled') return `cancelled after ${duration(seconds)}`
  if (status === 'superseded') return `gave way to build ${rest.supersededBy} of a newer commit after ${duration(seconds)}`
  const reference = paint.bold(shortDigest(rest.reference ?? rest.digest ?? ''))
  if (status === 'current') return `${reference}  already built`
  if (status === 'tagged') return `${reference}  unchanged, tagged in ${duration(seconds)}`
  const pushed = pushedBytes === undefined ? '' : ` (pushed ${size(pushedBytes)})`
  const parts = [
    `built in ${duration(seconds)}`,
    sizeBytes === undefined ? undefined : `${size(sizeBytes)}${pushed}`,
    steps === undefined || steps.total === 0 ? undefined : `${steps.cached} of ${steps.total} steps cached`,
  ]
  return `${reference}  ${parts.filter(Boolean).join(' · ')}`
}

/** What follows a failed image's summary: the failing step, its last lines, what to try next. */
export function failureLines(story: ImageStory, paint: Palette): string[] {
  const step = failedStep(story)
  const next = story.outcome?.error?.next
  return [
    ...(step === undefined ? [] : [`  #${step.number + 1} ${step.name}`, ...step.tail.map((line) => paint.dim(`  | ${line}`))]),
    ...(next === undefined ? [] : [`  ${paint.cyan('next:')} ${next}`]),
  ]
}
