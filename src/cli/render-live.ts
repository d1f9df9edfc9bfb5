import type { CliEvent } from '../events.ts'
import { duration } from './format.ts'
import { eventText, failureLines, summary } from './lines.ts'
import { layout, mark } from './live-layout.ts'
import { MachineStory, machineText, subjectOf } from './machine-lines.ts'
import type { Renderer } from './render.ts'
import { plainRenderer } from './render-plain.ts'
import { terminalScreen } from './screen.ts'
import { type ImageStory, newStory, secondsSince, tell } from './story.ts'
import { hasColours, palette } from './style.ts'
import { pad, width } from './width.ts'

/** 10 frames a second: seconds tick in tenths, and a slow connection keeps up. */
const FRAME_MS = 100
/** Events that stay on the screen, above the view. */
const LASTING = new Set(['retry', 'note', 'warning', 'clipped'])

/**
 * The live view on a terminal: every image with its running steps, redrawn in place; when it closes, one line per image stays, and the last
 * words of what failed. Events only fold into a bounded state; drawing has its own clock, so that a flood of log lines costs no drawing.
 */
export function liveRenderer(stream: NodeJS.WriteStream): Renderer {
  const paint = palette(hasColours(stream))
  const screen = terminalScreen(stream)
  const plain = plainRenderer(stream, { quiet: false })
  const stories = new Map<string, ImageStory>()
  const machines = new Map<string, MachineStory>()
  let [above, tick, closed]: [string[], number, boolean] = [[], 0, false]
  let timer: NodeJS.Timeout | undefined

  const redraw = (): void => {
    const view = { columns: stream.columns || 80, rows: stream.rows || 24, now: Date.now(), tick, paint }
    screen.draw(stories.size === 0 ? [] : layout([...stories.values()], view), above)
    above = []
  }
  const start = (): void => {
    if (timer !== undefined) return
    // Unref'd: the view alone keeps no process alive.
    timer = setInterval(() => {
      tick++
      redraw()
    }, FRAME_MS).unref()
    stream.on('resize', redraw)
    redraw()
  }
  const emit = (event: CliEvent): void => {
    if (closed) {
      plain.emit(event)
      return
    }
    if (event.type === 'notice') above.push(event.level === 'warning' ? `${paint.yellow('warning:')} ${event.text}` : event.text)
    else {
      const subject = subjectOf(event)
      const story = stories.get(subject) ?? newStory(subject, event.build)
      stories.set(subject, story)
      story.build ??= event.build
      if (event.type === 'image-done' || event.type === 'machine-done') story.outcome = event.outcome
      else if (event.type === 'machine') {
        const machine = machines.get(subject) ?? new MachineStory()
        machines.set(subject, machine)
        machine.tell(story, event.event, Date.now())
        if (event.event.type === 'note') above.push(`${subject}  ${machineText(event.event, paint)}`)
      } else {
        tell(story, event.event, Date.now())
        if (LASTING.has(event.event.type)) above.push(`${subject}  ${eventText(event.event, paint)}`)
      }
    }
    start()
  }
  const close = (): void => {
    plain.close()
    if (closed) return
    closed = true
    clearInterval(timer)
    stream.off('resize', redraw)
    if (timer !== undefined) screen.end([...above, ...remains([...stories.values()])])
  }
  const remains = (all: ImageStory[]): string[] => {
    const names = Math.max(0, ...all.map((story) => width(story.image)))
    return all.flatMap((story) => {
      const head = `${mark(story, paint)} ${pad(story.image, names)}  `
      const { outcome, startedAt } = story
      if (outcome !== undefined)
        // A machine's failure says the last lines itself.
        return [
          head + summary(outcome, paint),
          ...(outcome.status === 'failed' && !machines.has(story.image) ? failureLines(story, paint) : []),
        ]
      // A base, say: nothing was built, and the command tells what it made.
      const idle = ![...story.steps.values()].some((step) => step.state === 'started')
      if (machines.has(story.image) && story.build === undefined && idle) return []
      const elapsed = startedAt === undefined ? '' : ` after ${duration(secondsSince(story, startedAt, Date.now()))}`
      return [`${head}still ${story.phase}${elapsed}${story.build === undefined ? '' : `, build ${story.build}`}`]
    })
  }
  return { emit, close, settled: () => plain.settled() }
}
