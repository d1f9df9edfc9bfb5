import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { docker, ROOT } from './images.ts'

vi.setConfig({ testTimeout: 600_000 })

let temporary: string
beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'bake-demo-test-'))
})
afterEach(() => rm(temporary, { recursive: true, force: true }))

test('bin/fleet-demo kills workers, loses nothing and leaves nothing', async () => {
  const demo = start('--workers', '2', '--commits', '3', '--kills', '1')
  const [output, errors] = await Promise.all([text(demo.stdout), text(demo.stderr)])
  expect(errors).toBe('')
  expect(output).toContain('Nothing was lost\n6 of 6 commit tags are in the registry')
  expect(output).toMatch(/^[1-9] workers? (?:was|were) killed while building/m)
  expect(output).toContain('WORKER')
  expect(await code(demo)).toBe(0)
  await expectNothingLeft(output)
})

test.runIf(process.env.BAKE_TEST_ALL)('Ctrl-C in the middle of bin/fleet-demo leaves nothing either', async () => {
  const demo = start('--workers', '2', '--commits', '50')
  const errors = text(demo.stderr)
  let output = ''
  demo.stdout.setEncoding('utf8')
  for await (const piece of demo.stdout) {
    output += piece
    if (/\bready\b/.test(output) && !demo.killed) demo.kill('SIGINT')
  }
  expect({ code: await code(demo), errors: await errors }).toEqual({ code: 130, errors: '' })
  await expectNothingLeft(output)
})

test('bin/fleet-demo refuses what it does not know', async () => {
  const demo = spawn(process.execPath, [join(ROOT, 'bin/fleet-demo.js'), '--worker=2'])
  expect(await text(demo.stderr)).toMatch(/^error: .*--worker.*\nusage: bin\/fleet-demo/)
  expect(await code(demo)).toBe(2)
})

const code = async (child: ChildProcess): Promise<number | null> => child.exitCode ?? (await once(child, 'exit'))[0]

/** Without bin/setup, which bin/test has run. */
const start = (...args: string[]) =>
  spawn(process.execPath, [join(ROOT, 'bin/fleet-demo.js'), ...args], {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  })

async function expectNothingLeft(output: string): Promise<void> {
  // Node's own cache of what it compiled may stay.
  expect((await readdir(temporary)).filter((name) => name.startsWith('bake'))).toEqual([])
  expect(output).not.toBe('')
  const processes = await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  expect(processes.filter((line) => line.includes(join(temporary, 'bake')))).toEqual([])
  expect(await docker(['image', 'ls', '--quiet', '--filter', 'reference=localhost:*/demo-base'])).toBe('')
}
