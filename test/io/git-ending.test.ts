import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const GIT = new URL('../../src/io/git.ts', import.meta.url).href
const ROUNDS = 20

/** Runs `code` in a process of its own, which has nothing else to live for. */
const alone = (code: string) =>
  promisify(execFile)(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    '--input-type=module',
    '-e',
    `import { Checkout } from ${JSON.stringify(GIT)}; for (let n = 0; n < ${ROUNDS}; n++) { ${code} } console.log('ended')`,
  ])

/** Nothing of an idle git keeps a process alive, but its end does: Node once ended with code 13 instead, before the error was told. */
test('a process outlives the end of a git that was no use to it', async () => {
  const { stdout } = await alone(`await Checkout.open(${JSON.stringify(tmpdir())}).catch(() => {})`)
  expect(stdout).toBe('ended\n')
})
