import type { Renderer } from './render.ts'

export function plainRenderer(stream: NodeJS.WriteStream, _options: { quiet: boolean }): Renderer {
  return { emit: (event) => void stream.write(`${JSON.stringify(event)}\n`), close: () => {} }
}
