import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BadProject, badProject, expectError, expectNothingLeft, expectUntouched, yaml } from '../support/bad-input.ts'
import { BASE_IMAGE } from '../support/project.ts'

const config = (web: string, more?: string) => ({ 'bake.yaml': yaml(web, more) })
const dockerfile = (text: string) => ({ 'web/Dockerfile': text })

describe('what is refused before anything is queued', () => {
  let project: BadProject
  beforeAll(async () => {
    project = await badProject()
  })
  afterAll(() => project[Symbol.asyncDispose]())

  test.for([
    [
      'a context with ..',
      config('{ context: ../x }'),
      /bake.yaml:3: images.web.context: must not have \.\./,
      /correct bake.yaml/,
    ],
    ['an absolute context', config('{ context: /etc }'), /bake.yaml:3: images.web.context: must not be an absolute/, /correct/],
    [
      'a Dockerfile with ..',
      config('{ context: web, dockerfile: ../D }'),
      /images.web.dockerfile: must not have \.\./,
      /correct/,
    ],
    ['an absolute Dockerfile', config('{ context: web, dockerfile: /etc/x }'), /dockerfile: must not be an absolute/, /correct/],
    ['a context that is no directory of the commit', config('{ context: wbe }'), /has no directory wbe/, /did you mean web\?/],
    [
      'a transport helper',
      config('web', 'repository: "ext::sh -c touch% pwned"\n'),
      /bake.yaml:4: repository: .*xx::/,
      /correct/,
    ],
    ['an option as the repository', config('web', 'repository: "--upload-pack=id"\n'), /must not start with -/, /correct/],
    ['a max_age without a unit', config('{ context: web, max_age: 7 }'), /max_age: must be a time with a unit.*7d\?/, /correct/],
    ['a platform that is none', config('{ context: web, platforms: [amd46] }'), /must be os\/arch/, /correct/],
    [
      'aws: with a path on this machine',
      config(
        'web',
        'repository: /srv/x\nregistry: localhost:5000/x\naws: { region: us-east-1, queue: bake, bucket: acme-bake }\n',
      ),
      /repository: \/srv\/x is a path on this machine/,
      /https:\/\/ or ssh URL/,
    ],
    ['a target that is no stage', config('{ context: web, target: bsae }'), /no stage "bsae"/, /did you mean "base"\?/],
    ['a missing Dockerfile', { 'web/Dockerfile': null }, /has no Dockerfile web\/Dockerfile/, /git add it and commit/],
    [
      'a Dockerfile of another name',
      { 'web/Dockerfile': null, 'web/docker/Dockerfile.prod': 'FROM scratch\n' },
      /has no Dockerfile web\/Dockerfile/,
      /images.web.dockerfile: docker\/Dockerfile.prod/,
    ],
    ['an empty Dockerfile', dockerfile(''), /the Dockerfile has no FROM/, /FROM scratch/],
    ['a context behind a link out of the tree', { 'bake.yaml': yaml('out'), out: { link: '/etc' } }, /to \/etc/, /put the file/],
    [
      'a context behind a link above the tree',
      { 'bake.yaml': yaml('out'), out: { link: '../..' } },
      /symbolic link/,
      /put the file/,
    ],
    ['a Dockerfile behind a link out of the tree', { 'web/Dockerfile': { link: '/etc/passwd' } }, /leaves the repository/, /put/],
    ['a Dockerfile behind a link above the tree', { 'web/Dockerfile': { link: '../../x' } }, /leaves the repository/, /put/],
    [
      'an unpinned ADD where strict: true, its password not shown',
      {
        ...config('{ context: web, strict: true }'),
        ...dockerfile(`FROM ${BASE_IMAGE}\nADD http://u:hidden@127.0.0.1:9/x /x\n`),
      },
      /web is strict, but line 2: ADD http:\/\/\*\*\*@127.0.0.1:9\/x/,
      /ADD --checksum=sha256:/,
    ],
  ] as const)('%s', async ([_, files, error, next]) => {
    const result = await project.image(files)
    expectError(result, { exit: 2, error, next })
    expect(result.stderr).not.toMatch(/hidden/)
    await expectUntouched(project)
    await expect(access(join(project.dir, 'pwned'))).rejects.toThrow()
  })

  test('a base image that its registry does not have', async () => {
    // The host's registry, which is up but empty.
    await project.bake(['image', '--dry-run'])
    const { registry } = (await project.host())!
    const result = await project.image(dockerfile(`FROM ${registry}/nothing:1\n`))
    const error = new RegExp(`line 1 \\(FROM\\): ${registry} has no image ${registry}/nothing:1`)
    expectError(result, { exit: 2, error, next: /check its name and tag/ })
    await expectUntouched(project)
  })

  test('an image that bake.yaml does not define', async () => {
    await project.change({})
    const result = await project.bake(['image', '--image', 'wbe'])
    expectError(result, { exit: 2, error: /defines no image wbe \(did you mean web\?\)/, next: /it defines: web/ })
    expectError(await project.bake(['image', '--image=-x']), { exit: 2, error: /no image -x/, next: /it defines: web/ })
    await expectUntouched(project)
  })

  const MISTAKES = `project: shop\nimages:\n  web: { contxt: web }\n  Web2: {}\nregistri: x\n`
  const EACH = [/:3: images\.web\.contxt: .*context\?/, /:4: images\.Web2: .*web2\?/, /:5: registri: .*registry\?/]

  test('several mistakes in bake.yaml are told at once, a line each', async () => {
    const result = await project.image({ 'bake.yaml': MISTAKES })
    for (const each of EACH)
      expectError(result, { exit: 2, error: new RegExp(`^(error: )?bake\\.yaml${each.source}`, 'm'), next: /correct bake/ })
    await expectUntouched(project)
  })

  test('mistakes in the bake.yaml of an older commit are told with the commit', async () => {
    const commit = await project.change({ 'bake.yaml': MISTAKES })
    await project.change({})
    const result = await project.bake(['image', '--sha', commit])
    const name = `${commit.slice(0, 12)}:bake.yaml`
    for (const each of EACH)
      expectError(result, {
        exit: 2,
        error: new RegExp(`^(error: )?${name}${each.source}`, 'm'),
        next: /the commit being built: correct bake.yaml, commit it/,
      })
    await expectUntouched(project)
  })

  test.for([
    [['image', '--shaa', 'x'], /unknown flag --shaa; did you mean --sha\?/, /bake image --help/],
    [['imgae'], /no command `imgae`; did you mean `image`\?/, /bake image/],
    [['image', 'web'], /unexpected argument web/, /bake image --help/],
    [['cancel', 'latest', '--all'], /unknown flag --all/, /bake cancel --help/],
    [['cancel'], /missing argument ID/, /bake cancel --help/],
    [['image', '--priority', 'hihg'], /did you mean `high`\?/, /bake image --help/],
  ] as const)('bake %j', async ([args, error, next]) => {
    expectError(await project.bake([...args]), { exit: 2, error, next })
  })

  test.for(['/sys/bake', '/dev/null/bake'])('a state directory that can not be made: %s', async (dir) => {
    await project.change({})
    const env = { BAKE_STATE_DIR: dir }
    const error = new RegExp(`can't write to the state directory ${dir}`)
    for (const args of [['image'], ['worker', '--once']])
      expectError(await project.bake(args, { env }), { exit: 4, error, next: /BAKE_STATE_DIR/ })
    expect(await project.bake(['builds'], { env })).toMatchObject({ code: 0, stdout: '' })
  })

  test('a bake.yml is told its right name', async () => {
    await project.change({ 'bake.yaml': null, 'bake.yml': yaml('web') })
    expectError(await project.bake(['image']), { exit: 2, error: /must be called bake.yaml/, next: /mv -- / })
    await expectUntouched(project)
  })
})

test('an unpinned ADD warns and the build goes on', async () => {
  await using project = await badProject()
  const result = await project.image(dockerfile(`FROM scratch\nADD http://127.0.0.1:9/x /x\n`))
  expect(result.stderr).toMatch(/warning: web: line 2: ADD http:\/\/127.0.0.1:9\/x can give other content each time/)
  // It goes on to BuildKit, which finds nobody there.
  expectError(result, { exit: 3, error: /connection refused/, next: /bake logs/ })
  await expectNothingLeft(project)
})

test('max_age is part of the image key, which holds for its period', async () => {
  await using project = await badProject()
  // 7 d is a period; its number goes into the key.
  await project.change(config('{ context: web, max_age: 7d }'))
  const key = async () => {
    const planned = await project.bake(['image', '--dry-run', '--json'])
    return (JSON.parse(planned.stdout) as { images: { key: string }[] }).images[0]!.key
  }
  const aged = await key()
  expect(await key()).toBe(aged)
  await project.change({})
  expect(await key()).not.toBe(aged)
})
