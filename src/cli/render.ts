import type { Emit } from '../events.ts'

/** Shows the story of a command on stderr while it runs. */
export interface Renderer {
  emit: Emit
  /** Ends the view: what is left of it is final and the cursor is back. Later events become plain lines. Safe to call twice. */
  close(): void
  /** Resolves when stderr's reader has caught up; await it between portions of a log, or lines are left out for a slow reader. */
  settled(): Promise<void>
}

export interface RenderOptions {
  json: boolean
  /** No steps and no log lines; what fails still shows its tail. */
  quiet: boolean
  progress: 'auto' | 'plain'
  stream: NodeJS.WriteStream
}

/** JSON lines with --json, the live view on a terminal, plain lines else. Loads only the one that is used. */
export async function openRenderer(options: RenderOptions): Promise<Renderer> {
  const { json, quiet, progress, stream } = options
  if (json) return (await import('./render-json.ts')).jsonRenderer(stream)
  const live = stream.isTTY && !quiet && progress === 'auto' && process.env.TERM !== 'dumb'
  if (live) return (await import('./render-live.ts')).liveRenderer(stream)
  return (await import('./render-plain.ts')).plainRenderer(stream, { quiet })
}
