import { execFile } from 'node:child_process'
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { which } from '../../src/io/child.ts'
import { freePort } from '../../src/io/host/ports.ts'
import { waitFor } from '../../src/wait.ts'
import { makeProject, type TestProject } from '../support/project.ts'

const run = promisify(execFile)
/** Several swaps each, beside other tests. */
const SWAPS = { timeout: 300_000 }
const STACK = `stack-${process.pid}`

let project: TestProject
let port: number
let other: number
beforeAll(async () => {
  ;[port, other] = [await freePort(), await freePort()]
  project = await makeProject({
    'bake.yaml': yaml(),
    'web/busybox': { executable: await readFile('/bin/busybox') },
    'web/Dockerfile':
      'FROM scratch\nSTOPSIGNAL SIGKILL\nCOPY busybox /bin/\nENV PATH=/bin\nCOPY start.sh index.html /www/\nCMD ["busybox", "sh", "/www/start.sh"]\n',
    'web/start.sh': WELL,
    'web/index.html': 'one\n',
  })
}, 300_000)
afterAll(async () => {
  for (const name of await containers()) await run('docker', ['rm', '--force', '--volumes', name])
  await project?.[Symbol.asyncDispose]()
})

const WELL = 'exec busybox httpd -f -p 3000 -h /www\n'
const yaml = (within = '30s') => `project: shop
images:
  web: { context: web }
machine:
  base: { disk: base.raw }
  services:
    jobs: { image: web, command: ["busybox", "sleep", "100000"], after: [web], health: { command: ["busybox", "test", "-f", "/www/index.html"], within: ${within} } }
    web: { image: web, ports: ["127.0.0.1:${port}:3000"], health: { http: "http://127.0.0.1:${port}/", within: ${within} } }
stacks:
  ${STACK}: { local: true }
  away: { targets: { "tag:stack": away } }
`
const containers = async () =>
  (await run('docker', ['ps', '--all', '--filter', `label=bake.stack=${STACK}`, '--format', '{{.Names}}'])).stdout
    .split('\n')
    .filter(Boolean)
    .sort()
const page = () =>
  fetch(`http://127.0.0.1:${port}/`).then(
    (answer) => answer.text(),
    () => undefined,
  )
const change = async (files: Record<string, string>) => project.repo.commit(files)
const swap = (...args: string[]) => project.bake(['swap', '--stack', STACK, ...args])
const OURS = [`bake-shop-${STACK}-jobs`, `bake-shop-${STACK}-web`]
interface Done {
  services: { service: string; status: string; image: string }[]
}

test('a commit runs, and the next one in its place', SWAPS, async () => {
  const first = await swap('--json')
  expect(first, first.stderr).toMatchObject({ code: 0 })
  const { services } = JSON.parse(first.stdout) as Done
  expect(services.map(({ service, status }) => [service, status])).toEqual([
    ['web', 'swapped'],
    ['jobs', 'swapped'],
  ])
  expect(await page()).toBe('one\n')

  await change({ 'web/index.html': 'two\n' })
  const second = await swap()
  expect(second, second.stderr).toMatchObject({ code: 0 })
  expect(second.stdout).toMatch(/^web {2}localhost:\d+\/shop\/web@sha256:[0-9a-f]{64}\njobs {2}/)
  expect(await page()).toBe('two\n')
  expect(await containers()).toEqual(OURS)
  const { stdout } = await run('docker', ['inspect', '--format', '{{.HostConfig.RestartPolicy.Name}}', ...OURS])
  expect(stdout.trim().split('\n')).toEqual(['always', 'always'])

  const again = await swap('--json')
  expect((JSON.parse(again.stdout) as Done).services.map(({ status }) => status)).toEqual(['unchanged', 'unchanged'])
})

describe('what ran before runs again, and the reason is told, when the new one', () => {
  test.each<[string, string, RegExp]>([
    [
      'never gets well',
      'exec busybox sleep 100000\n',
      /web: what ran before runs again: not healthy after 2 s: nothing answers there/,
    ],
    ['ends', 'echo no database; exit 7\n', /web: what ran before runs again: its container ended with 7\n.*\| no database/],
  ])('%s', SWAPS, async (_, start, why) => {
    await change({ 'web/start.sh': start, 'web/index.html': 'bad\n', 'bake.yaml': yaml('2s') })
    const result = await swap('--image', 'web', '--atomic')
    expect(result, result.stderr).toMatchObject({ code: 3, stderr: expect.stringMatching(why), stdout: '' })
    expect(await page()).toBe('two\n')
    const document = JSON.parse((await swap('--image', 'web', '--json')).stdout) as Done & { error: { code: string } }
    // The other service that runs this image goes all the same.
    expect(document).toMatchObject({
      services: [
        { service: 'web', status: 'kept' },
        { service: 'jobs', status: 'swapped' },
      ],
      error: { code: 'swap_failed' },
    })
    expect(await containers()).toEqual(OURS)
    await change({ 'web/start.sh': WELL, 'bake.yaml': yaml() })
  })
})

test('killed while the new one starts: what ran before runs again with the next swap', SWAPS, async () => {
  await change({ 'web/start.sh': 'busybox sleep 5; exec busybox httpd -f -p 3000 -h /www\n', 'web/index.html': 'three\n' })
  const running = project.start(['swap', '--stack', STACK])
  await running.waitFor('stderr', /^web {2}starting/)
  await waitFor(async () => ((await containers()).length === 3 ? true : undefined), {
    what: 'three containers',
    deadlineMs: 20_000,
    intervalMs: 50,
  })
  running.kill('SIGKILL')
  await running.wait()
  expect(await containers()).toEqual([...OURS, `${OURS[1]}.before`])

  const next = await swap()
  expect(next, next.stderr).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/web {2}a swap was interrupted: undone first/),
  })
  expect(await page()).toBe('three\n')
  expect(await containers()).toEqual(OURS)
})

test('two at once: the second is refused', SWAPS, async () => {
  await change({ 'web/index.html': 'four\n' })
  await using first = project.start(['swap', '--stack', STACK])
  await first.waitFor('stderr', /^web {2}starting/)
  expect(await swap()).toMatchObject({ code: 2, stderr: expect.stringMatching(/another bake swaps stack/) })
  expect((await first.wait()).code).toBe(0)
  expect(await page()).toBe('four\n')
})

test('Ctrl-C puts back what ran', SWAPS, async () => {
  const before = await page()
  await change({ 'web/start.sh': 'exec busybox sleep 100000\n' })
  await using running = project.start(['swap', '--stack', STACK])
  await running.waitFor('stderr', /^web {2}starting/)
  running.kill('SIGINT')
  expect((await running.wait()).code).toBe(130)
  expect(await page()).toBe(before)
  expect(await containers()).toEqual(OURS)
  await change({ 'web/start.sh': WELL })
})

test('a port that somebody else has: what ran before runs again', SWAPS, async () => {
  await change({ 'bake.yaml': yaml().replace(`"127.0.0.1:${port}:3000"`, `"127.0.0.1:${port}:3000", "127.0.0.1:${other}:3001"`) })
  const name = `bake-other-${process.pid}`
  await run('docker', [
    'run',
    '--detach',
    `--name=${name}`,
    `--publish=127.0.0.1:${other}:1`,
    `--label=bake.stack=${STACK}`,
    'localhost/bakehouse/base:bookworm',
    'sleep',
    '1000',
  ])
  const result = await swap('--image', 'web')
  await run('docker', ['rm', '--force', name])
  expect(result, result.stderr).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(/port is already allocated|address already in use/),
  })
  expect(await page()).toBe('four\n')
  await change({ 'bake.yaml': yaml() })
})

test('a service that has another name now: its container goes when the new one is well, and not before', SWAPS, async () => {
  const renamed = yaml('2s').replace('    web: {', '    page: {').replace('after: [web]', 'after: [page]')
  await change({ 'bake.yaml': renamed, 'web/start.sh': 'exec busybox sleep 10000\n' })
  const failing = await swap()
  expect(failing).toMatchObject({ code: 3, stderr: expect.stringMatching(/page: nothing runs: not healthy/) })
  const found = await waitFor(page, { what: 'the page', deadlineMs: 5_000, intervalMs: 50 }).catch(() => undefined)
  expect(found, failing.stderr).toBe('four\n')
  await change({ 'bake.yaml': renamed.replaceAll('2s', '30s'), 'web/start.sh': WELL })
  expect(await swap()).toMatchObject({ code: 0, stderr: expect.stringMatching(/^web {2}removed: bake\.yaml has no such/m) })
  expect(await containers()).toEqual(OURS.map((name) => name.replace(/web$/, 'page')))
  expect(await page()).toBe('four\n')
  await change({ 'bake.yaml': yaml() })
  expect(await swap()).toMatchObject({ code: 0 })
  expect(await containers()).toEqual(OURS)
})

test('bad input is one clear error, and nothing is changed', SWAPS, async () => {
  const runs = async (...args: string[]) => project.bake(['swap', ...args])
  expect(await runs('--stack', `${STACK}x`)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/has no stack .*did you mean stack-/),
  })
  expect(await runs('--stack', 'away')).toMatchObject({ code: 2, stderr: expect.stringMatching(/stack away is on AWS/) })
  expect(await swap('--image', 'wbe')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/no service runs an image wbe \(did you mean web\?\)/),
  })
  expect(await swap('--release', 'v9')).toMatchObject({ code: 2, stderr: expect.stringMatching(/v9/) })
  // All that a command here needs but the engine's.
  const bin = join(project.dir, '.git/bin')
  await mkdir(bin)
  for (const name of ['git', 'sh', 'setpriv', 'readlink']) await symlink(which(name)!, join(bin, name))
  expect(await project.bake(['swap', '--stack', STACK], { env: { PATH: bin } })).toMatchObject({
    code: 4,
    stderr: expect.stringMatching(/^error: docker is not installed\nnext: /m),
  })
  expect(await page()).toBe('four\n')
})

test('--down removes all of it', SWAPS, async () => {
  expect((await swap('--down')).stdout.trim().split('\n').sort()).toEqual(OURS)
  expect(await containers()).toEqual([])
})
