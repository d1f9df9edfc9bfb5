import type { CliEvent } from '../events.ts'
import { eventText, failureLines, summary } from './lines.ts'
import { machineSummary, machineText, subjectOf } from './machine-lines.ts'
import type { Renderer } from './render.ts'
import { type ImageStory, newStory, tell } from './story.ts'
import { hasColours, palette } from './style.ts'
import { lineWriter } from './writer.ts'

/** With --quiet only these and what ends an image are told. */
const ALWAYS = new Set(['retry', 'note', 'warning', 'clipped'])

/**
 * The story as lines that start with their image's name: no cursor moves, one line per state change, log lines behind `|`. For CI and pipes.
 * An image's steps and their lines are `web  #5 …`, so that grep finds one step of one image.
 */
export function plainRenderer(stream: NodeJS.WriteStream, options: { quiet: boolean }): Renderer {
  const paint = palette(hasColours(stream))
  const writer = lineWriter(stream, (n) => `… ${n} log lines left out: they are read too slowly here; \`bake logs\` has them`)
  const stories = new Map<string, ImageStory>()

  const emit = (event: CliEvent): void => {
    if (event.type === 'notice') {
      writer.line(event.level === 'warning' ? `${paint.yellow('warning:')} ${event.text}` : event.text)
      return
    }
    if (event.type === 'machine') {
      const { type } = event.event
      if (options.quiet && type !== 'note') return
      writer[type === 'line' ? 'log' : 'line'](`${subjectOf(event)}  ${machineText(event.event, paint)}`)
      return
    }
    if (event.type === 'machine-done') {
      writer.line(`${subjectOf(event)}  ${machineSummary(event.outcome, paint)}`)
      return
    }
    const story = stories.get(event.image) ?? newStory(event.image, event.build)
    stories.set(event.image, story)
    if (event.type === 'image') {
      tell(story, event.event, Date.now())
      const text = options.quiet && !ALWAYS.has(event.event.type) ? undefined : eventText(event.event, paint)
      if (text === undefined) return
      writer[event.event.type === 'line' ? 'log' : 'line'](`${event.image}  ${text}`)
      return
    }
    story.outcome = event.outcome
    const failure = event.outcome.status === 'failed' ? failureLines(story, paint) : []
    for (const line of [...summary(event.outcome, paint).split('\n'), ...failure]) writer.line(`${event.image}  ${line}`)
    stories.delete(event.image)
  }
  return { emit, close: writer.flush, settled: writer.settled }
}
