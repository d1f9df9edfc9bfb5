import type { Renderer } from './render.ts'
import { plainRenderer } from './render-plain.ts'

export function liveRenderer(stream: NodeJS.WriteStream): Renderer {
  return plainRenderer(stream, { quiet: false })
}
