import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Terminal extends AsyncDisposable {
  /** The visible rows, trailing blanks cut, empty ones at the end left out. */
  screen(): Promise<string[]>
  /** The same with everything that scrolled away above. */
  history(): Promise<string[]>
  cursorShown(): Promise<boolean>
  resize(columns: number, rows: number): Promise<void>
  /** Keys as tmux names them: `C-c`, `Enter`. */
  press(key: string): Promise<void>
  /** Resolves with the screen as soon as a row matches; rejects after `ms`. */
  waitFor(pattern: RegExp, ms?: number): Promise<string[]>
}

/** A real terminal of that size, in which `sh -c <script>` runs: tmux on a socket of its own, killed at the end. */
export async function openTerminal(
  script: string,
  { columns = 100, rows = 24, env = {} }: { columns?: number; rows?: number; env?: Record<string, string> } = {},
): Promise<Terminal> {
  const directory = await mkdtemp(join(tmpdir(), 'bake-terminal-'))
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(BAKE_|TMUX|VITEST|NODE_ENV|FORCE_COLOR|NO_COLOR|CI$|TEST$)/.test(name)),
  )
  const tmux = async (...args: string[]): Promise<string> => {
    const { stdout } = await run('tmux', ['-u', '-S', join(directory, 'socket'), '-f', '/dev/null', ...args], {
      env: { ...clean, LC_ALL: 'C.UTF-8', ...env },
    })
    return stdout
  }
  // The pane outlives its script, so that what is left on the screen can be looked at.
  await tmux(
    'new-session',
    '-d',
    '-x',
    String(columns),
    '-y',
    String(rows),
    `trap : INT; sh -c ${quote(script)}; printf 'ended %s\\n' $?; exec sleep 600`,
  )
  await tmux('set-option', '-g', 'status', 'off')
  await tmux('resize-window', '-x', String(columns), '-y', String(rows))
  const rowsOf = (text: string) =>
    text
      .trimEnd()
      .split('\n')
      .map((row) => row.trimEnd())
  const screen = async () => rowsOf(await tmux('capture-pane', '-p'))
  return {
    screen,
    history: async () => rowsOf(await tmux('capture-pane', '-p', '-S', '-')),
    cursorShown: async () => (await tmux('display-message', '-p', '#{cursor_flag}')).trim() === '1',
    resize: async (width, height) => void (await tmux('resize-window', '-x', String(width), '-y', String(height))),
    press: async (key) => void (await tmux('send-keys', key)),
    async waitFor(pattern, ms = 20_000) {
      for (const end = performance.now() + ms; ; await sleep(50)) {
        const now = await screen()
        if (now.some((row) => pattern.test(row))) return now
        if (performance.now() > end) throw new Error(`no row like ${pattern} after ${ms} ms:\n${now.join('\n')}`)
      }
    },
    [Symbol.asyncDispose]: async () => {
      await tmux('kill-server').catch(() => {})
      await rm(directory, { recursive: true })
    },
  }
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
