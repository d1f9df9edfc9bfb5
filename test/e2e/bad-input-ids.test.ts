import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newBuildId } from '../../src/names.ts'
import { type BadProject, badProject, expectError, expectNothingLeft, expectUntouched, ledgerKeys } from '../support/bad-input.ts'

const COMMANDS = ['build', 'logs', 'cancel', 'retry']

describe('build ids, before there is any build', () => {
  let project: BadProject
  beforeAll(async () => {
    project = await badProject()
  })
  afterAll(() => project[Symbol.asyncDispose]())

  test.for(COMMANDS)('bake %s', async (command) => {
    const next = /bake builds {4}lists them/
    for (const [id, error] of [
      ['latest', /there are no builds yet/],
      ['zzz', /no build id begins with zzz/],
      [newBuildId(), /there is no build/],
      ['../../etc/passwd', /"..\/..\/etc\/passwd" is no build id/],
      ['%2e', /is no build id/],
    ] as const)
      expectError(await project.bake([command, id]), { exit: 2, error, next })
    await expectUntouched(project)
  })
})

describe('build ids, after two builds', () => {
  let project: BadProject
  beforeAll(async () => {
    project = await badProject()
    for (const text of ['one', 'two']) {
      await project.change({ 'web/server.js': `${text}\n` })
      const built = await project.bake(['image'])
      expect(built, built.stderr).toMatchObject({ code: 0 })
    }
  })
  afterAll(() => project[Symbol.asyncDispose]())

  test.for(COMMANDS)('bake %s with what several ids begin with', async (command) => {
    const [newest, oldest] = await project.builds()
    const same = [...newest!.build].findIndex((letter, at) => letter !== oldest!.build[at])
    const before = await ledgerKeys(project)
    const result = await project.bake([command, newest!.build.slice(0, same)])
    expectError(result, { exit: 2, error: /several build ids begin with/, next: /bake builds/ })
    expect(await ledgerKeys(project)).toEqual(before)
  })

  test('cancel of a build that ended says so and changes nothing', async () => {
    const [newest, oldest] = await project.builds()
    const before = await ledgerKeys(project)
    const result = await project.bake(['cancel', newest!.build, oldest!.build])
    expect(result, result.stderr).toMatchObject({
      code: 0,
      stdout: `${newest!.build} had ended already: built\n${oldest!.build} had ended already: built\n`,
    })
    expect(await ledgerKeys(project)).toEqual(before)
    expect(await project.builds()).toEqual([newest, oldest])
    await expectNothingLeft(project)
  })

  test('one unknown id among several: none is cancelled', async () => {
    const before = await ledgerKeys(project)
    const result = await project.bake(['cancel', 'latest', 'zzz'])
    expectError(result, { exit: 2, error: /no build id begins with zzz/, next: /bake builds/ })
    expect(await ledgerKeys(project)).toEqual(before)
  })

  test('a retry of what is published finds it', async () => {
    const before = await ledgerKeys(project)
    const result = await project.bake(['retry', 'latest'])
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(await ledgerKeys(project)).toEqual(before)
  })
})

test('a second worker of one name is refused, and the first works on', async () => {
  await using project = await badProject()
  await using first = project.start(['worker', '--name', 'twin'])
  await first.waitFor('stderr', /worker twin is ready/)
  const second = await project.bake(['worker', '--name', 'twin'])
  expectError(second, { exit: 4, error: /a worker called twin runs on this machine already/, next: /another --name/ })
  const named = await project.bake(['worker', '--name', '../evil'])
  expectError(named, { exit: 2, error: /"..\/evil" is no worker name/, next: /a–z/ })
  const built = await project.bake(['image'])
  expect(built, built.stderr).toMatchObject({ code: 0 })
  expect(await project.builds()).toMatchObject([{ worker: 'twin', status: 'built' }])
  await expectNothingLeft(project)
  first.kill('SIGTERM')
  expect((await first.wait()).code).toBe(0)
})
