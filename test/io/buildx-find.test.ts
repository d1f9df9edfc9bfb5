import { mkdir, mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assertBuildx, findBuildx } from '../../src/io/buildx-find.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-find-'))
})
afterAll(() => rm(dir, { recursive: true }))

/** A plugin in a DOCKER_CONFIG of its own, which is looked at first; it notes each run. */
async function install(name: string, output: string) {
  const home = join(dir, name)
  const path = join(home, 'cli-plugins', 'docker-buildx')
  await mkdir(join(home, 'cli-plugins'), { recursive: true })
  await writeFile(path, `#!/bin/sh\necho x >>${home}/runs\necho '${output}'\n`, { mode: 0o755 })
  return {
    env: { ...process.env, DOCKER_CONFIG: home },
    path,
    runs: async () => (await readFile(join(home, 'runs'), 'utf8')).length / 2,
  }
}

test('finds this machine’s', async () => {
  expect(await assertBuildx()).toEqual({
    path: expect.stringMatching(/docker-buildx$/),
    version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
  })
})

test.each([
  ['github.com/docker/buildx v0.14.0 171fcbe', '0.14.0'],
  ['github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3', '0.13.1'],
  ['github.com/docker/buildx v1.0.0-rc1 abc', '1.0.0'],
])('takes the user’s own first: %s', async (output, version) => {
  const { env, path } = await install(`own-${version}`, output)
  expect(await assertBuildx(env)).toEqual({ path, version })
})

test('asks a file for its version once, until the file changes', async () => {
  const { env, path, runs } = await install('once', 'github.com/docker/buildx v0.20.0 x')
  await findBuildx(env)
  await findBuildx(env)
  expect(await runs()).toBe(1)
  await utimes(path, 1, 1)
  await findBuildx(env)
  expect(await runs()).toBe(2)
})

test('too old', async () => {
  const { env, path } = await install('old', 'github.com/docker/buildx v0.12.1 x')
  await expect(assertBuildx(env)).rejects.toMatchObject({
    kind: 'world',
    code: 'buildx_too_old',
    exit: 4,
    ids: { path },
    next: expect.stringContaining('bin/setup'),
  })
})

test('a plugin that does not run is passed over', async () => {
  const { env } = await install('broken', 'no version here')
  expect((await findBuildx(env))?.path).not.toContain(dir)
})
