import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { CliEvent } from '../../src/events.ts'
import { story } from './fixture/story.ts'
import { FIXTURE, runFixture, startFixture } from './support.ts'

const RESULT = 'localhost:5001/shop/web@sha256:result\n'

test('a pipe gets plain lines, one per change, and the result alone on stdout', async () => {
  const { stdout, stderr } = await runFixture(['story'])
  expect(stdout).toBe(RESULT)
  await expect(stderr).toMatchFileSnapshot('../golden/story-plain.txt')
})

test('--quiet leaves results, warnings and the tail of what failed', async () => {
  const { stderr } = await runFixture(['story', '--quiet'])
  await expect(stderr).toMatchFileSnapshot('../golden/story-quiet.txt')
})

test('--json makes every event one line of JSON on stderr', async () => {
  const { stdout, stderr } = await runFixture(['story', '--json'])
  const events = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as CliEvent)
  const timeless = (list: CliEvent[]) => JSON.parse(JSON.stringify(list, (name, value) => (name === 't' ? undefined : value)))
  expect(timeless(events)).toEqual(timeless(story(3, 0)))
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, rssMb: expect.any(Number) })
})

test('no control character of a build reaches a pipe', async () => {
  const { stderr } = await runFixture(['story'])
  expect(stderr.match(/[\x00-\x09\x0b-\x1f\x7f]/)).toBe(null)
})

test('a flood of log lines that is read arrives whole, in bounded memory', async () => {
  const bake = startFixture(['story', '--flood', '2000000', '--images', '0', '--json'])
  // Counted as it comes, or the test would need the memory that it says bake doesn't.
  let [lines, stdout] = [0, '']
  bake.child.stderr!.removeAllListeners('data').on('data', (data: string) => (lines += data.split('\n').length - 1))
  bake.child.stdout!.on('data', (data: string) => (stdout += data))
  await bake.wait()
  expect(lines).toBe(2_000_000 + 2 + 1)
  // 400 MB went through; 210 MB at a quarter of it as well, as the collector likes.
  expect(JSON.parse(stdout).rssMb).toBeLessThan(300)
})

test('a reader that stands still costs log lines, not memory, and the loss is told', async () => {
  const child = spawn(process.execPath, [FIXTURE, 'story', '--flood', '2000000', '--no-settle', '--json', '--images', '1'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (data) => (stdout += data))
  while (stdout === '') await sleep(50)
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (data: string) => (stderr = (stderr + data).slice(-1_000_000)))
  await once(child, 'close')
  expect(child.exitCode).toBe(0)
  expect(stderr).toMatch(/"\d+ log lines left out/)
  expect(stderr).toContain('"image-done"')
  expect(JSON.parse(stdout).rssMb).toBeLessThan(300)
})

test('a reader of stdout that went away ends the command quietly', async () => {
  const child = spawn(process.execPath, [FIXTURE, 'story', '--pace', '20'], { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.destroy()
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (data) => (stderr += data))
  await once(child, 'close')
  expect(child.exitCode).toBe(0)
  expect(stderr).not.toMatch(/EPIPE|bug:/)
})

test('without a reader of stderr the command still ends with its result and code', async () => {
  const child = spawn(process.execPath, [FIXTURE, 'story', '--flood', '100000'], { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stderr.destroy()
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (data) => (stdout += data))
  await once(child, 'close')
  expect({ code: child.exitCode, stdout }).toEqual({ code: 0, stdout: RESULT })
})
