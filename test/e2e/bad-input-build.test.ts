import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseReference } from '../../src/reference.ts'
import { type BadProject, badProject, expectError, expectNothingLeft, yaml } from '../support/bad-input.ts'
import { BASE_IMAGE } from '../support/project.ts'

const platforms = (...names: string[]) => ({ 'bake.yaml': yaml(`{ context: web, platforms: [${names.join(', ')}] }`) })
const dockerfile = (text: string) => ({ 'web/Dockerfile': text })

/** Refused or failed by the worker: the build's record says so, nothing is published, and the queue is empty. */
describe('what only the worker can see', () => {
  let project: BadProject
  beforeAll(async () => {
    project = await badProject(undefined, { SSH_AUTH_SOCK: undefined })
  })
  afterAll(() => project[Symbol.asyncDispose]())

  test.for([
    [
      'a RUN that fails',
      dockerfile(`FROM ${BASE_IMAGE}\nRUN echo last words; exit 9\n`),
      3,
      /exit code 9 \(Dockerfile line 2\)/,
      /bake logs/,
    ],
    [
      'an instruction that is none',
      dockerfile(`FROM ${BASE_IMAGE}\nRUNN echo\n`),
      3,
      /unknown instruction: RUNN.*line 2/,
      /bake logs/,
    ],
    [
      'a COPY of what is not there',
      dockerfile('FROM scratch\nCOPY nothing.txt /\n'),
      3,
      /nothing.txt isn't in the context/,
      /commit the file/,
    ],
    [
      'an amd64 base for arm64',
      { ...platforms('linux/arm64'), ...dockerfile(`FROM ${BASE_IMAGE}\nCOPY server.js /\n`) },
      4,
      /line 1: \S+ is for linux\/amd64 only, but linux\/arm64 is built from it/,
      /leave linux\/arm64 out of platforms/,
    ],
    [
      'a RUN for a platform that nothing emulates',
      { ...platforms('linux/amd64', 'linux/s390x'), ...dockerfile('FROM scratch\nCOPY server.js /\nRUN ["/server.js"]\n') },
      4,
      /runs commands for linux\/s390x, which this linux\/amd64 engine can't run/,
      /qemu-user-static/,
    ],
    [
      'lfs: true without git-lfs here',
      { 'bake.yaml': yaml('{ context: web, lfs: true }') },
      4,
      /git-lfs is not installed/,
      /apt-get install git-lfs/,
    ],
    [
      'ssh without an agent',
      { 'bake.yaml': yaml('{ context: web, ssh: [default] }'), ...dockerfile(`FROM ${BASE_IMAGE}\nRUN --mount=type=ssh true\n`) },
      4,
      /agent/,
      /SSH_AUTH_SOCK/,
    ],
  ] as const)('%s', async ([_, files, exit, error, next]) => {
    const result = await project.image(files)
    expectError(result, { exit, error, next })
    const [record] = await project.builds()
    expect(record).toMatchObject({ status: 'failed', failure: { exit } })
    expect((await project.claims(record!.commit)).entries.map(({ state }) => state)).toEqual(['claimed', 'failed'])
    expect(await project.tagged(`sha-${record!.commit}`)).toBeUndefined()
    expect(await project.tagged('branch-main')).toBeUndefined()
    await expectNothingLeft(project)
  })

  test('two images that fail: one error that names both', async () => {
    const failing = { 'a/Dockerfile': `FROM ${BASE_IMAGE}\nRUN exit 4\n`, 'b/Dockerfile': `FROM ${BASE_IMAGE}\nRUN exit 5\n` }
    const result = await project.image({ 'bake.yaml': 'project: shop\nimages:\n  a: a\n  b: b\n', ...failing })
    expectError(result, { exit: 3, error: /2 images failed: a, b/, next: /bake logs/ })
    expect(result.stderr).toMatch(/^a .*exit code 4/m)
    expect(result.stderr).toMatch(/^b .*exit code 5/m)
    await expectNothingLeft(project)
  })

  test('a failing Dockerfile that was corrected builds', async () => {
    const result = await project.image(dockerfile(`FROM ${BASE_IMAGE}\nRUN echo last words\n`))
    expect(result, result.stderr).toMatchObject({ code: 0 })
    await expectNothingLeft(project)
  })
})

test('an image that only copies is built for two platforms, and the registry has an index of both', async () => {
  await using project = await badProject()
  const result = await project.image({
    ...platforms('linux/arm64', 'linux/amd64'),
    ...dockerfile('FROM scratch\nCOPY server.js /\n'),
  })
  expect(result, result.stderr).toMatchObject({ code: 0 })
  const manifest = await project.registry.manifest(parseReference(result.stdout.trim()))
  const index = JSON.parse(Buffer.from(manifest!.bytes).toString()) as { manifests: { platform: object }[] }
  expect(index.manifests.map(({ platform }) => platform)).toEqual([
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64' },
  ])
  await expectNothingLeft(project)
})
