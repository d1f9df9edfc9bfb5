import type { CliEvent } from '../events.ts'
import type { Renderer } from './render.ts'

/** The story as JSON lines: one event per line, as it is. */
export function jsonRenderer(stream: { write(text: string): unknown }): Renderer {
  return { emit: (event: CliEvent) => void stream.write(`${JSON.stringify(event)}\n`), close: () => {} }
}
