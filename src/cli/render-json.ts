import type { CliEvent } from '../events.ts'
import type { Renderer } from './render.ts'
import { lineWriter } from './writer.ts'

/** The story as JSON lines: one event per line, as it is (src/events.ts). */
export function jsonRenderer(stream: NodeJS.WriteStream): Renderer {
  const writer = lineWriter(stream, (n) =>
    JSON.stringify({
      type: 'notice',
      level: 'warning',
      text: `${n} log lines left out: they are read too slowly here`,
    } satisfies CliEvent),
  )
  const emit = (event: CliEvent) =>
    writer[event.type === 'image' && event.event.type === 'line' ? 'log' : 'line'](JSON.stringify(event))
  return { emit, close: writer.flush, settled: writer.settled }
}
