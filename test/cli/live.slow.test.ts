import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { openTerminal } from '../support/terminal.ts'
import { FIXTURE } from './support.ts'

const run = promisify(execFile)
const bake = (...args: string[]) => [process.execPath, '--disable-warning=ExperimentalWarning', FIXTURE, ...args].join(' ')
const RESULT = 'localhost:5001/shop/web@sha256:result'

test('while it runs: a frame without cursor; at the end: one line per image, the tail of what failed, the result', async () => {
  await using terminal = await openTerminal(bake('story', '--pace', '60'), { columns: 120, rows: 40 })
  const during = await terminal.waitFor(/RUN npm ci/)
  expect(during.find((row) => row.includes(' web '))).toMatch(/^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] web {3}building {2}\d+\.\d s/)
  expect(await terminal.cursorShown()).toBe(false)
  await terminal.waitFor(/^ended 0/)
  expect(await terminal.cursorShown()).toBe(true)
  await expect(`${(await terminal.history()).join('\n')}\n`).toMatchFileSnapshot('../golden/live-terminal.txt')
})

test('seconds tick while nothing is told', async () => {
  await using terminal = await openTerminal(bake('story', '--pace', '400'), { columns: 80 })
  const seconds = async () =>
    Number(/web .* (\d+\.\d) s/.exec((await terminal.screen()).find((row) => /[⠋-⠿] web/.test(row)) ?? '')?.[1])
  await terminal.waitFor(/[⠋-⠿] web .* s/)
  const seen = new Set<number>()
  for (let i = 0; i < 12; i++) {
    seen.add(await seconds())
    await sleep(50)
  }
  expect(seen.size).toBeGreaterThan(3)
})

test('twenty images in 24 rows: every image at most once on the screen, nothing of a frame scrolls away', async () => {
  await using terminal = await openTerminal(bake('story', '--images', '20', '--pace', '6'), { columns: 100, rows: 24 })
  await terminal.waitFor(/[⠋-⠿] web/)
  for (let ended = false; !ended; ) {
    const rows = await terminal.screen()
    ended = rows.some((row) => row.startsWith('ended'))
    const heads = rows.flatMap((row) => /^[⠋-⠿✓✗] (\S+)/.exec(row)?.[1] ?? [])
    if (!ended) expect(heads).toEqual([...new Set(heads)])
  }
  const all = (await terminal.history()).join('\n')
  expect(all).not.toMatch(/[⠋-⠿]|queued|building|of 20 done/)
  expect(all.match(/^✓ /gm)).toHaveLength(19)
  expect(all.match(/^✗ api/gm)).toHaveLength(1)
})

test('a terminal that becomes smaller and larger again keeps no rests of frames', async () => {
  await using terminal = await openTerminal(bake('story', '--images', '3', '--pace', '200'), { columns: 120, rows: 40 })
  await terminal.waitFor(/RUN npm ci/)
  await terminal.resize(50, 40)
  // A frame for 50 columns cuts the summary that one for 120 showed whole.
  const narrow = await terminal.waitFor(/^✓ jobs .{30,41}…$/)
  expect(narrow.filter((row) => /[⠋-⠿] web/.test(row))).toHaveLength(1)
  await terminal.resize(120, 40)
  await terminal.waitFor(/^ended 0/)
  // The same as on a terminal that kept its size: no rest of a frame, and nothing that should stay was overwritten.
  await expect(`${(await terminal.history()).join('\n')}\n`).toMatchFileSnapshot('../golden/live-terminal.txt')
})

test('Ctrl-C in a command that takes no signals leaves the cursor shown', async () => {
  await using terminal = await openTerminal(bake('story', '--hang'))
  await terminal.waitFor(/✓ web/)
  expect(await terminal.cursorShown()).toBe(false)
  await terminal.press('C-c')
  await terminal.waitFor(/ended 130/)
  expect(await terminal.cursorShown()).toBe(true)
})

test('200 MB of log lines pass through the live view in bounded memory', { timeout: 120_000 }, async () => {
  await using terminal = await openTerminal(bake('story', '--flood', '2000000', '--images', '1', '--rss'), {
    columns: 100,
    rows: 24,
  })
  await terminal.waitFor(/^\s+\d+ x{50}/)
  const rows = await terminal.waitFor(/^ended 0/, 100_000)
  expect(rows).toContain(RESULT)
  expect(Number(/rss (\d+)/.exec(rows.join('\n'))?.[1])).toBeLessThan(200)
})

test('--progress plain and --quiet draw no frame on a terminal', async () => {
  await using terminal = await openTerminal(`${bake('story', '--progress', 'plain')}; ${bake('story', '-q')}`, {
    columns: 160,
    rows: 80,
  })
  await terminal.waitFor(/^ended 0/)
  const all = (await terminal.history()).join('\n')
  expect(all).not.toMatch(/[⠋-⠿]/)
  expect(all.match(/#3 \[build 2\/4\]/g)).toHaveLength(4)
})

test('colours on a terminal, none with NO_COLOR', async () => {
  const onTerminal = async (env: NodeJS.ProcessEnv) => {
    const { stdout } = await run('script', ['-qec', `${bake('fail', 'failed')} || true`, '/dev/null'], {
      env: { PATH: process.env.PATH, TERM: 'xterm', ...env },
    })
    return stdout.split('\r\n')[0]
  }
  expect(await onTerminal({})).toBe('\x1b[31merror:\x1b[39m RUN false')
  expect(await onTerminal({ NO_COLOR: '1' })).toBe('error: RUN false')
  expect(await onTerminal({ TERM: 'dumb' })).toBe('error: RUN false')
})
