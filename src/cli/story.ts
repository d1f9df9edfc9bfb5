import type { ImageOutcome, MachineOutcome, StoryEvent } from '../events.ts'
import { printable } from './width.ts'

/** Lines of a running step that are kept, to be shown when it fails. Enough for a compiler's or a test's last words. */
const TAIL_LINES = 40
/** A log line may be megabytes of minified text; its beginning is enough to show. */
const MAX_LINE_CHARS = 2000

export type Outcome = ImageOutcome | MachineOutcome

export interface StepView {
  number: number
  name: string
  state: 'started' | 'cached' | 'done' | 'failed' | 'canceled'
  internal: boolean
  /** ms since the epoch on the worker's clock. */
  startedAt: number
  seconds: number | undefined
  tail: string[]
}

/** What is known of one image, or of a machine image, folded from its events. Bounded: finished steps keep no log lines. */
export interface ImageStory {
  image: string
  build: string | undefined
  phase: string
  detail: string | undefined
  /** Of the first event, on the worker's clock. */
  startedAt: number | undefined
  /** The least (own clock − event's clock) seen: the two clocks' difference, however late a replayed event arrives. */
  clockOffset: number
  steps: Map<number, StepView>
  outcome: Outcome | undefined
}

export const newStory = (image: string, build?: string): ImageStory => ({
  image,
  build,
  phase: 'queued',
  detail: undefined,
  startedAt: undefined,
  clockOffset: Number.POSITIVE_INFINITY,
  steps: new Map(),
  outcome: undefined,
})

/** Folds one event into the story. `now` is ms since the epoch on our clock. */
export function tell(story: ImageStory, event: StoryEvent, now: number): void {
  story.startedAt ??= event.t
  story.clockOffset = Math.min(story.clockOffset, now - event.t)
  if (event.type === 'phase') {
    // Whoever claims or builds (again) starts with step 0.
    if (event.phase === 'claimed' || event.phase === 'building') story.steps.clear()
    story.phase = event.phase
    story.detail = event.detail ?? (event.worker === undefined ? undefined : `on ${event.worker}`)
  } else if (event.type === 'retry') {
    story.steps.clear()
    story.phase = 'retrying'
    story.detail = `attempt ${event.attempt + 1} of ${event.of} in ${event.inSeconds} s: ${event.code}`
  } else if (event.type === 'step') {
    const known = story.steps.get(event.step)
    const { step: number, name, state, seconds, internal = false } = event
    const tail = state === 'started' || state === 'failed' ? (known?.tail ?? []) : []
    story.steps.set(number, {
      number,
      name: oneLine(name),
      state,
      internal,
      seconds,
      tail,
      startedAt: known?.startedAt ?? event.t,
    })
  } else if (event.type === 'line') {
    const tail = story.steps.get(event.step)?.tail
    if (tail === undefined) return
    tail.push(printable(event.text.slice(0, MAX_LINE_CHARS)))
    if (tail.length > TAIL_LINES) tail.shift()
  }
}

/** Seconds since `t`, a time on the worker's clock. */
export const secondsSince = (story: ImageStory, t: number, now: number): number =>
  Math.max(0, (now - (Number.isFinite(story.clockOffset) ? story.clockOffset : 0) - t) / 1000)

export const failedStep = (story: ImageStory): StepView | undefined =>
  [...story.steps.values()].findLast((step) => step.state === 'failed')

/** A step's name on one line: a heredoc's name spans several. */
export const oneLine = (text: string): string => printable(text.replace(/\s+/g, ' ').trim().slice(0, 300))
