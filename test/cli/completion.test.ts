import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { commandWords } from '../../src/cli/completion.ts'
import { completionScript } from '../../src/cli/completion-scripts.ts'
import { runBake } from '../support/bake.ts'
import { COMMANDS } from './fixture/commands.ts'

const run = promisify(execFile)

const words = commandWords(
  Object.entries(COMMANDS).map(([id, command]) => ({
    id,
    summary: command.summary,
    flags: { ...command.baseFlags, ...command.flags } as Record<string, object>,
    args: command.args,
  })),
)
let directory: string
let script: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bake-completion-'))
  script = join(directory, 'bake.bash')
  await writeFile(script, completionScript('bash', words))
})
afterAll(() => rm(directory, { recursive: true }))

/** What bash offers with the cursor behind the last of `typed`, split as readline splits it. */
async function complete(...typed: string[]): Promise<string[]> {
  const lines = [
    `source "$1"; shift`,
    `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))`,
    `complete -p bake > /dev/null || exit 1`,
    `_bake; printf '%s\\n' "\${COMPREPLY[@]}"`,
  ]
  const { stdout, stderr } = await run('bash', ['--norc', '-c', lines.join('\n'), 'bash', script, ...typed])
  expect(stderr).toBe('')
  return stdout.split('\n').filter((line) => line !== '')
}

test('bash completes commands', async () => {
  expect(await complete('bake', 's')).toEqual(['story'])
  expect(await complete('bake', '')).toEqual(['fail', 'flags', 'story', 'wait', '--help', '--version'])
})

test('bash completes the flags of a command, negations and short ones too', async () => {
  const offered = await complete('bake', 'flags', '-')
  expect(offered).toEqual(
    expect.arrayContaining(['--sha', '--image', '--priority', '--no-wait', '--json', '--quiet', '-q', '--help']),
  )
  expect(offered).not.toContain('--stubborn')
  expect(await complete('bake', 'flags', '--json', '--sh')).toEqual(['--sha'])
})

test('bash completes the values of a flag, behind a blank and behind =', async () => {
  expect(await complete('bake', 'flags', '--priority', '')).toEqual(['normal', 'high'])
  expect(await complete('bake', 'flags', '--priority', 'h')).toEqual(['high'])
  expect(await complete('bake', 'flags', '--priority', '=')).toEqual(['normal', 'high'])
  expect(await complete('bake', 'flags', '--priority', '=', 'n')).toEqual(['normal'])
})

test('bash leaves a value that nobody can list to file names', async () => {
  expect(await complete('bake', 'flags', '--sha', '')).toEqual([])
})

test('quotes and brackets of a summary do not break zsh and fish', () => {
  for (const shell of ['zsh', 'fish'] as const) {
    const text = completionScript(shell, words)
    expect(text).toContain('Shows its flags; doesn’t (do): much')
    expect((text.match(/'/g) ?? []).length % 2).toBe(0)
  }
})

test('`bake completion` prints the script for the real commands', async () => {
  const { code, stdout, stderr } = await runBake(['completion', 'bash'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  await writeFile(script, stdout)
  expect(await complete('bake', 'comp')).toEqual(['completion'])
  expect(await complete('bake', 'completion', '')).toEqual(expect.arrayContaining(['bash', 'zsh', 'fish']))
  expect(await complete('bake', 'image', '--priority', '')).toEqual(['normal', 'high'])
  expect(await complete('bake', 'host')).toEqual([])
})

test('a shell that nobody knows is refused with the three that are', async () => {
  expect(await runBake(['completion', 'tcsh'])).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('bash, zsh, fish'),
  })
})
