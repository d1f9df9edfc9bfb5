import { width } from './width.ts'

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const CLEAR_LINE_END = '\x1b[K'
const CLEAR_BELOW = '\x1b[J'

export interface TerminalScreen {
  /** Replaces the frame by `lines`, each narrower than the terminal, in one write; `above` goes over it and stays. */
  draw(lines: readonly string[], above?: readonly string[]): void
  /** Takes the frame away, writes `lines` for good, gives the cursor back. */
  end(lines: readonly string[]): void
}

/**
 * A frame that is redrawn in place at the bottom of what was written so far. The cursor comes back also when the process exits or dies of a
 * signal nobody else handles.
 */
export function terminalScreen(stream: NodeJS.WriteStream): TerminalScreen {
  let [drawn, last, hidden]: [readonly string[], string, boolean] = [[], '', false]

  /** To the frame's first row. A terminal that became narrower has wrapped its lines into more rows. */
  const home = (): string => {
    const columns = stream.columns || 80
    const rows = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(width(line) / columns)), 0)
    return rows > 0 ? `\r\x1b[${rows}A` : '\r'
  }
  const show = (): void => {
    if (hidden) stream.write(SHOW_CURSOR)
    hidden = false
  }
  const onSignal = (name: NodeJS.Signals): void => {
    if (process.listenerCount(name) > 1) return
    leave()
    process.kill(process.pid, name)
  }
  const leave = (): void => {
    show()
    process.off('exit', show).off('SIGINT', onSignal).off('SIGTERM', onSignal).off('SIGHUP', onSignal)
  }
  const enter = (): string => {
    if (hidden) return ''
    hidden = true
    process.on('exit', show).on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal)
    return HIDE_CURSOR
  }
  const rows = (lines: readonly string[]): string => lines.map((line) => `${line}${CLEAR_LINE_END}\n`).join('')

  return {
    draw(lines, above = []) {
      const frame = lines.join('\n')
      if (frame === last && above.length === 0) return
      // What goes above may wrap or have line breaks of its own: it needs clean ground; a frame alone is overwritten, which doesn't flicker.
      const lasting = above.length === 0 ? '' : `${CLEAR_BELOW}${above.join('\n')}\n`
      stream.write(`${enter()}${home()}${lasting}${rows(lines)}${CLEAR_BELOW}`)
      drawn = lines
      last = frame
    },
    end(lines) {
      stream.write(`${home()}${CLEAR_BELOW}${rows(lines)}`)
      drawn = []
      last = ''
      leave()
    },
  }
}
