import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startFixture } from './support.ts'

test.for(['SIGINT', 'SIGTERM'] as const)('the first %s drains: the command says what goes on, exit 130', async (signal) => {
  await using bake = startFixture(['wait'])
  await bake.waitFor('stderr', /ready/)
  bake.kill(signal)
  expect(await bake.wait()).toEqual({
    code: 130,
    signal: null,
    stdout: '',
    stderr: 'ready\ndraining\ndetached; the build goes on\nnext: bake logs x --follow\n',
  })
})

test('with --json an interrupted command still prints its one document', async () => {
  await using bake = startFixture(['wait', '--json'])
  await bake.waitFor('stderr', /ready/)
  bake.kill()
  const { code, stdout, stderr } = await bake.wait()
  expect(code).toBe(130)
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, error: { code: 'interrupted', exit: 130 } })
  expect(
    stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).text),
  ).toEqual(['ready', 'draining'])
})

test('an AbortError of the platform counts as the interruption that it is', async () => {
  await using bake = startFixture(['wait', '--native'])
  await bake.waitFor('stderr', /ready/)
  bake.kill('SIGTERM')
  expect(await bake.wait()).toMatchObject({ code: 130, stderr: 'ready\ndraining\nstopped by SIGTERM\n' })
})

test('only the second signal aborts what drains', async () => {
  await using bake = startFixture(['wait', '--stubborn'])
  await bake.waitFor('stderr', /ready/)
  bake.kill()
  await bake.waitFor('stderr', /draining/)
  await sleep(200)
  expect(bake.child.exitCode).toBe(null)
  bake.kill()
  expect(await bake.wait()).toMatchObject({ code: 130 })
})

test('a command that asks for no signals dies of SIGINT as any program', async () => {
  await using bake = startFixture(['story', '--hang'])
  await bake.waitFor('stderr', /^web {2}localhost/)
  bake.kill()
  expect(await bake.wait()).toMatchObject({ code: null, signal: 'SIGINT' })
})
