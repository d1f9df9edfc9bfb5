import { duration } from './format.ts'
import { summary } from './lines.ts'
import { type ImageStory, type StepView, secondsSince } from './story.ts'
import { type Palette, palette } from './style.ts'
import { pad, truncate, width } from './width.ts'

const SPINNER = [...'⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏']
const LOG_LINES = 4
const FINISHED_STEPS = 3
const RUNNING_STEPS = 5
/** Steps' times stand in a column of their own, so that names don't dance while seconds tick. */
const TIME_CELLS = 12

export interface Viewport {
  columns: number
  rows: number
  /** ms since the epoch. */
  now: number
  /** Counts frames, for the spinner. */
  tick: number
  paint: Palette
}

/** How much is shown of each running image: 0 its header, 1 running steps, 2 finished ones too, 3 log lines too. */
type Detail = 0 | 1 | 2 | 3
const DETAILS: readonly Detail[] = [0, 1, 2, 3]

const isQueued = (story: ImageStory) => story.outcome === undefined && (story.phase === 'queued' || story.phase === 'waiting')
const isDone = (story: ImageStory) => story.outcome !== undefined && story.outcome.status !== 'failed'

/**
 * The lines of one frame, each narrower than the terminal, all of them fewer than its rows. Done and queued images become counts when the
 * running ones' steps would not fit beside them; the room that is left then goes to details, image by image.
 */
export function layout(stories: readonly ImageStory[], view: Viewport): string[] {
  const room = Math.max(1, view.rows - 1)
  const names = Math.max(...stories.map((story) => width(story.image)))
  const blocksOf = (shown: readonly ImageStory[]) =>
    shown.map((story) =>
      story.outcome === undefined
        ? DETAILS.map((detail) => running(story, names, detail, view))
        : [[finished(story, names, view)]],
    )
  const whole = blocksOf(stories)
  if (whole.reduce((sum, block) => sum + (block[1] ?? block[0])!.length, 0) <= room) return fill(whole, room)

  const counts = [
    countLine(stories.filter(isDone), (n) => view.paint.green(truncate(`✓ ${n} of ${stories.length} done`, view.columns - 1))),
    countLine(stories.filter(isQueued), (n) => view.paint.dim(truncate(`○ ${n} queued`, view.columns - 1))),
  ].flat()
  const lines = [
    ...fill(blocksOf(stories.filter((story) => !isDone(story) && !isQueued(story))), room - counts.length),
    ...counts,
  ]
  if (lines.length <= room) return lines
  return [...lines.slice(0, room - 1), view.paint.dim(truncate(`… and ${lines.length - room + 1} more`, view.columns - 1))]
}

const countLine = (stories: readonly ImageStory[], text: (n: number) => string): string[] =>
  stories.length === 0 ? [] : [text(stories.length)]

/** Each block at the highest detail that `room` lines allow, lower details of all going before higher ones of any. */
function fill(blocks: readonly string[][][], room: number): string[] {
  const chosen = blocks.map((block) => block[0]!)
  let used = chosen.length
  for (const detail of DETAILS.slice(1))
    blocks.forEach((block, i) => {
      const better = block[detail]
      if (better === undefined || used - chosen[i]!.length + better.length > room) return
      used += better.length - chosen[i]!.length
      chosen[i] = better
    })
  return chosen.flat()
}

/** `✓ web  …@sha256:1a2b…  built in 4.2 s`, cut to the terminal. Colours don't survive a cut, so only the mark has one. */
function finished(story: ImageStory, names: number, { columns, paint }: Viewport): string {
  const text = `${pad(story.image, names)}  ${summary(story.outcome!, palette(false))}`
  return `${mark(story, paint)} ${truncate(text.replaceAll('\n', ' '), columns - 3)}`
}

/** The sign before an image's summary. */
export function mark(story: ImageStory, paint: Palette): string {
  const status = story.outcome?.status
  if (status === 'failed') return paint.red('✗')
  return status === 'cancelled' || status === 'superseded' || status === undefined ? '–' : paint.green('✓')
}

function running(story: ImageStory, names: number, detail: Detail, view: Viewport): string[] {
  const { columns, now, paint } = view
  const elapsed = story.startedAt === undefined ? '' : `  ${duration(secondsSince(story, story.startedAt, now))}`
  const steps = [...story.steps.values()].filter((step) => !step.internal || step.state === 'failed')
  const cached = steps.filter((step) => step.state === 'cached').length
  const counted = cached === 0 ? '' : `  ${cached} cached`
  const head = truncate(`${pad(story.image, names)}  ${story.phase}${elapsed}`, columns - 3)
  const rest = truncate(`${counted}${story.detail === undefined ? '' : `  ${story.detail}`}`, columns - 3 - width(head))
  const lines = [`${paint.cyan(spinner(view.tick))} ${paint.bold(head)}${paint.dim(rest)}`]
  if (detail === 0) return lines
  const past = detail === 1 ? [] : steps.filter((step) => step.state !== 'started').slice(-FINISHED_STEPS)
  const active = steps.filter((step) => step.state === 'started')
  lines.push(...past.map((step) => stepLine(step, story, view)))
  for (const step of active.slice(0, RUNNING_STEPS)) {
    lines.push(stepLine(step, story, view))
    if (detail < 3) continue
    const log = step.tail.filter((line) => line.trim() !== '').slice(-LOG_LINES)
    lines.push(...log.map((line) => ' '.repeat(TIME_CELLS) + paint.dim(truncate(line, columns - TIME_CELLS - 1))))
  }
  if (active.length > RUNNING_STEPS)
    lines.push(paint.dim(`${' '.repeat(TIME_CELLS)}and ${active.length - RUNNING_STEPS} more steps`))
  return lines
}

function stepLine(step: StepView, story: ImageStory, view: Viewport): string {
  const { paint, columns } = view
  const time = step.state === 'cached' ? 'cached' : duration(step.seconds ?? secondsSince(story, step.startedAt, view.now))
  const sign = step.state === 'started' ? spinner(view.tick) : ' '
  const label = `  ${sign} ${time.padStart(TIME_CELLS - 6)}  ${step.name}`
  const text = truncate(label, columns - 1)
  if (step.state === 'failed') return paint.red(text)
  return step.state === 'started' ? text : paint.dim(text)
}

const spinner = (tick: number): string => SPINNER[tick % SPINNER.length]!
