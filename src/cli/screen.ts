import { width } from './width.ts'

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
/** The whole line, not only its end: in tmux that also forgets that the line was once wrapped, which a later reflow would act on. */
const CLEAR_LINE = '\x1b[2K'
const CLEAR_LINE_END = '\x1b[K'
const CLEAR_BELOW = '\x1b[J'
/**
 * Without automatic wrapping (DECAWM) a frame has as many rows as lines also when it is drawn for a width that the terminal no longer has:
 * tmux tells of a resize up to 250 ms late.
 */
const [NO_WRAP, WRAP] = ['\x1b[?7l', '\x1b[?7h']
/** Synchronized output: the terminal shows all of it or nothing; ignored where it isn't known. */
const [HOLD, SHOW] = ['\x1b[?2026h', '\x1b[?2026l']

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
  const columns = () => stream.columns || 80
  let [drawn, last, hidden]: [readonly string[], string, boolean] = [[], '', false]

  /** To the frame's first row. A terminal that became narrower has wrapped the lines that it showed into more rows (xterm alone cuts them). */
  const home = (): string => {
    const rows = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(width(line) / columns())), 0)
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
  /**
   * Lines that stay, over whatever stands there; they may wrap. Nothing below is cleared first: that would flicker, and tmux keeps a cleared
   * screen in its history. Behind a line that ends in the last column the cursor stands on its last character: clearing would take that.
   */
  const lasting = (lines: readonly string[]): string =>
    lines
      .flatMap((line) => line.split('\n'))
      .map((line) => `${CLEAR_LINE}${line}${line !== '' && width(line) % columns() === 0 ? '' : CLEAR_LINE_END}\n`)
      .join('')

  return {
    draw(lines, above = []) {
      const frame = lines.join('\n')
      if (frame === last && above.length === 0) return
      const rows = lines.map((line) => `${CLEAR_LINE}${line}\n`).join('')
      stream.write(`${HOLD}${enter()}${home()}${lasting(above)}${NO_WRAP}${rows}${WRAP}${CLEAR_BELOW}${SHOW}`)
      drawn = lines
      last = frame
    },
    end(lines) {
      stream.write(`${home()}${lasting(lines)}${CLEAR_BELOW}`)
      drawn = []
      last = ''
      leave()
    },
  }
}
