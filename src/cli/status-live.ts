import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { FleetStatus } from '../jobs/fleet-status.ts'
import { terminalScreen } from './screen.ts'
import { statusLines } from './status-lines.ts'
import type { Palette } from './style.ts'

/** Times tick between two looks. */
const FRAME_MS = 500

/** Shows the fleet in place on a terminal until the signal is aborted; the last frame stays. A look that fails is told, and tried again. */
export async function watchFleet(
  look: () => Promise<FleetStatus>,
  { stream, paint, everyMs, signal }: { stream: NodeJS.WriteStream; paint: Palette; everyMs: number; signal: AbortSignal },
): Promise<void> {
  // The first look's failure is the command's.
  let status = await look()
  let trouble: string | undefined
  const screen = terminalScreen(stream)
  const frame = (): string[] => {
    const shown = trouble === undefined ? status : { ...status, problems: [...status.problems, trouble] }
    const lines = statusLines(shown, { columns: stream.columns || 80, now: Date.now(), paint })
    const room = Math.max(1, (stream.rows || 24) - 1)
    return lines.length <= room ? lines : [...lines.slice(0, room - 1), paint.dim(`… ${lines.length - room + 1} more lines`)]
  }
  const draw = () => screen.draw(frame())
  const timer = setInterval(draw, FRAME_MS)
  stream.on('resize', draw)
  try {
    draw()
    while (!signal.aborted) {
      await sleep(everyMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) break
      try {
        status = await look()
        trouble = undefined
      } catch (error) {
        trouble = messageOf(error)
      }
      draw()
    }
  } finally {
    clearInterval(timer)
    stream.off('resize', draw)
    screen.end(frame())
  }
}
