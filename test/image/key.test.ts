import { describe, expect, test } from 'vitest'
import type { ImageDefinition } from '../../src/config.ts'
import { analyse } from '../../src/image/dockerfile.ts'
import { collectInputs, type ImageInputs } from '../../src/image/inputs.ts'
import { imageKey, type KeyOptions } from '../../src/image/key.ts'
import { KEY_SCHEMA } from '../../src/image/key-schema.ts'
import { Checkout } from '../../src/io/git.ts'
import { makeRepo, type RepoFiles } from '../support/repo.ts'

const hex = (letter: string) => letter.repeat(64)

const inputs: ImageInputs = {
  contextPath: 'web',
  contextTree: 'a'.repeat(40),
  dockerfilePath: 'web/Dockerfile',
  dockerfileBlob: 'b'.repeat(40),
  dockerfileText: 'FROM alpine\n',
  dockerignore: Buffer.from('x'),
  dockerignoreBlob: 'c'.repeat(40),
  attributes: [{ path: '.gitattributes', blob: 'd'.repeat(40) }],
  contextPaths: { shared: 'shared' },
  contexts: { shared: `tree:${'e'.repeat(40)}`, tools: 'image:acme/tools:1' },
  args: { A: '1', B: '2' },
  target: 'web',
  platforms: ['linux/amd64', 'linux/arm64'],
  network: 'none',
  secrets: ['npm_token', 'other'],
  ssh: ['default'],
  submodules: false,
  lfs: false,
  attest: false,
  maxAgeSeconds: 86_400,
  analysis: analyse('FROM alpine\n'),
  references: [],
  warnings: [],
}
const options: KeyOptions = {
  repository: 'reg.test/shop/web',
  pins: [
    { reference: 'alpine', digest: `sha256:${hex('1')}` },
    { reference: 'acme/tools:1', digest: `sha256:${hex('2')}` },
  ],
  nowMs: 1_800_000_000_000,
}

describe('imageKey', () => {
  test('golden: a change here changes the key of every image there is, so it needs a new KEY_SCHEMA', () => {
    expect([KEY_SCHEMA, imageKey(inputs, options)]).toMatchInlineSnapshot(`
      [
        1,
        "2afb75d5f4a9fdde7c2e48325ec2305bef27af5fc0309b99f32ce2acc7f8e808",
      ]
    `)
  })

  const changes: Partial<ImageInputs>[] = [
    { contextTree: 'f'.repeat(40) },
    { dockerfileBlob: 'f'.repeat(40) },
    { dockerignoreBlob: 'f'.repeat(40) },
    { dockerignoreBlob: undefined },
    { attributes: [] },
    { attributes: [{ path: '.gitattributes', blob: 'f'.repeat(40) }] },
    { contextPath: 'other' },
    { contexts: { ...inputs.contexts, shared: `tree:${'f'.repeat(40)}` } },
    { args: { A: '1', B: '3' } },
    { args: { A: '1', C: '2' } },
    { target: undefined },
    { platforms: ['linux/amd64'] },
    { network: undefined },
    { secrets: ['npm_token'] },
    { ssh: [] },
    { submodules: true },
    { lfs: true },
    { attest: true },
    { maxAgeSeconds: undefined },
    { maxAgeSeconds: 3600 },
  ]
  test.each(changes)('%j changes it', (change) => {
    expect(imageKey({ ...inputs, ...change }, options)).not.toBe(imageKey(inputs, options))
  })

  const otherOptions: Partial<KeyOptions>[] = [
    { repository: 'reg.test/shop/jobs' },
    { pins: [options.pins[0]!] },
    { pins: [options.pins[0]!, { reference: 'acme/tools:1', digest: `sha256:${hex('3')}` }] },
    { nowMs: options.nowMs + 86_400_000 },
  ]
  test.each(otherOptions)('%j changes it', (change) => {
    expect(imageKey(inputs, { ...options, ...change })).not.toBe(imageKey(inputs, options))
  })

  const same: Partial<ImageInputs>[] = [
    { args: { B: '2', A: '1' } },
    { contexts: Object.fromEntries(Object.entries(inputs.contexts).reverse()) },
    { platforms: ['linux/arm64', 'linux/amd64'] },
    { secrets: ['other', 'npm_token'] },
    { warnings: ['x'], dockerfilePath: 'elsewhere' },
  ]
  test.each(same)('%j doesn’t', (change) => {
    expect(imageKey({ ...inputs, ...change }, options)).toBe(imageKey(inputs, options))
  })

  test('nor do the order of pins, where a digest was found, and the time within one period', () => {
    const pins = options.pins.map((pin) => ({ ...pin, local: true as const })).reverse()
    expect(imageKey(inputs, { ...options, pins, nowMs: options.nowMs + 1000 })).toBe(imageKey(inputs, options))
  })

  test('without .gitattributes above, it doesn’t matter where the context lies', () => {
    const free = { ...inputs, attributes: [] }
    expect(imageKey({ ...free, contextPath: 'moved' }, options)).toBe(imageKey(free, options))
  })
})

const definition = (change: Partial<ImageDefinition> = {}): ImageDefinition => ({
  name: 'web',
  context: 'web',
  dockerfile: 'Dockerfile',
  platforms: [],
  args: {},
  secrets: [],
  ssh: [],
  contexts: {},
  submodules: false,
  lfs: false,
  strict: false,
  attest: false,
  ...change,
})

/** The inputs of one commit that holds `files`. */
async function collect(
  files: RepoFiles,
  change: Partial<ImageDefinition> = {},
  prefix = '',
  more?: (repo: { git(...args: string[]): Promise<string> }) => Promise<unknown>,
) {
  await using repo = await makeRepo({ files })
  if (more) await more(repo)
  await using checkout = await Checkout.open(repo.dir)
  const commit = await repo.git('rev-parse', 'HEAD')
  return await collectInputs(checkout.objects, commit, prefix, definition(change), ['linux/amd64'])
}
const refusal = (code: string, text?: string) => ({ code, exit: 2, ...(text ? { next: expect.stringContaining(text) } : {}) })
const key = (found: ImageInputs) => imageKey(found, options)

describe('collectInputs', () => {
  const files: RepoFiles = {
    'web/Dockerfile': 'FROM alpine\nCOPY --from=acme/tools:1 /x /x\n',
    'web/app.js': '1',
    'web/.dockerignore': '*.md\n',
    'other/file': '1',
  }

  test('reads a context, its Dockerfile, its .dockerignore and what to pin', async () => {
    expect(await collect(files)).toMatchObject({
      contextPath: 'web',
      contextTree: expect.stringMatching(/^[0-9a-f]{40}$/),
      dockerfilePath: 'web/Dockerfile',
      dockerfileText: files['web/Dockerfile'],
      dockerignore: Buffer.from('*.md\n'),
      references: [
        { reference: 'alpine', use: 'from', line: 1 },
        { reference: 'acme/tools:1', use: 'copy', line: 2 },
      ],
      warnings: [],
    })
  })

  test('only what is in the context changes the key', async () => {
    const before = key(await collect(files))
    expect(key(await collect({ ...files, 'other/file': '2', 'README.md': 'x' }))).toBe(before)
    expect(key(await collect({ ...files, 'web/app.js': '2' }))).not.toBe(before)
    expect(key(await collect({ ...files, '.gitattributes': '* text=auto\n' }))).not.toBe(before)
  })

  test('paths count from bake.yaml’s directory', async () => {
    const moved = { 'sub/web/Dockerfile': 'FROM a\n', 'sub/web/x': '1' }
    expect(await collect(moved, {}, 'sub/')).toMatchObject({ contextPath: 'sub/web', dockerfilePath: 'sub/web/Dockerfile' })
    expect(await collect({ Dockerfile: 'FROM a\n' }, { context: '.' })).toMatchObject({
      contextPath: '',
      dockerfilePath: 'Dockerfile',
    })
  })

  test('<Dockerfile>.dockerignore comes before .dockerignore', async () => {
    const found = await collect(
      { ...files, 'web/docker/prod.Dockerfile': 'FROM a\n', 'web/docker/prod.Dockerfile.dockerignore': 'own\n' },
      { dockerfile: 'docker/prod.Dockerfile' },
    )
    expect(Buffer.from(found.dockerignore!).toString()).toBe('own\n')
  })

  test('named contexts: directories by tree, images to pin; neither is taken for an image of the file', async () => {
    const named = { ...files, 'web/Dockerfile': 'FROM base\nCOPY --from=lib /f /f\n' }
    const found = await collect(named, { contexts: { lib: 'other', base: 'docker-image://acme/base:2' } })
    expect(found.contextPaths).toEqual({ lib: 'other' })
    expect(found.contexts).toEqual({ lib: expect.stringMatching(/^tree:/), base: 'image:acme/base:2' })
    expect(found.references).toEqual([{ reference: 'acme/base:2', use: 'context' }])
    expect(
      key(await collect({ ...named, 'other/file': '2' }, { contexts: { lib: 'other', base: 'docker-image://acme/base:2' } })),
    ).not.toBe(key(found))
  })

  test('secrets give their ids, never more', async () => {
    process.env.BAKE_SECRET_NPM_TOKEN = 'very-secret-value'
    const found = await collect(files, { secrets: [{ id: 'npm_token', ssm: '/shop/npm' }] })
    delete process.env.BAKE_SECRET_NPM_TOKEN
    expect(found.secrets).toEqual(['npm_token'])
    expect(JSON.stringify(found)).not.toMatch(/very-secret-value|\/shop\/npm/)
  })

  test.each<[string, Partial<ImageDefinition>]>([
    ['an absolute context', { context: '/etc' }],
    ['a context with ..', { context: 'web/../../x' }],
    ['an absolute Dockerfile', { dockerfile: '/etc/passwd' }],
    ['a Dockerfile with ..', { dockerfile: '../Dockerfile' }],
    ['a named context with ..', { contexts: { x: '../y' } }],
  ])('%s is bad_path', async (_, change) => {
    await expect(collect(files, change)).rejects.toMatchObject(refusal('bad_path'))
  })

  test('links inside the tree are followed, links that leave it refused', async () => {
    const linked: RepoFiles = {
      ...files,
      app: { link: 'web' },
      'web/Linked': { link: '../shared/Dockerfile' },
      'shared/Dockerfile': 'FROM linked\n',
    }
    expect(await collect(linked, { context: 'app', dockerfile: 'Linked' })).toMatchObject({
      contextPath: 'web',
      dockerfileText: 'FROM linked\n',
    })
    const escaping: RepoFiles = {
      ...files,
      out: { link: '../..' },
      abs: { link: '/etc' },
      'web/Out': { link: '../../Dockerfile' },
      loop: { link: 'loop' },
    }
    for (const change of [{ context: 'out' }, { context: 'abs' }, { context: 'loop' }, { dockerfile: 'Out' }])
      await expect(collect(escaping, change)).rejects.toMatchObject(refusal('symlink_escapes'))
  })

  test('a missing context or Dockerfile names what is there', async () => {
    await expect(collect(files, { context: 'othr' })).rejects.toMatchObject(refusal('missing_context', 'did you mean other?'))
    await expect(collect(files, { context: 'app' })).rejects.toMatchObject(refusal('missing_context', 'other, web'))
    await expect(collect(files, { dockerfile: 'web/Dockerfile' })).rejects.toMatchObject(
      refusal('missing_dockerfile', 'dockerfile: Dockerfile '),
    )
    await expect(collect(files, { context: 'other' })).rejects.toMatchObject(refusal('missing_dockerfile', 'write one'))
  })

  test('a submodule in the context needs submodules: true', async () => {
    const add = async (repo: { git(...args: string[]): Promise<string> }) => {
      const head = await repo.git('rev-parse', 'HEAD')
      await repo.git('update-index', '--add', '--cacheinfo', `160000,${head},web/lib`)
      await repo.git('commit', '-q', '-m', 'submodule')
    }
    await expect(collect(files, {}, '', add)).rejects.toMatchObject(refusal('submodule_content', 'submodules: true'))
    expect(await collect(files, { submodules: true }, '', add)).toMatchObject({ submodules: true })
    expect(await collect(files, { context: 'other', dockerfile: 'Dockerfile' }, '', add).catch(({ code }) => code)).toBe(
      'missing_dockerfile',
    )
  })

  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${hex('a')}\nsize 12\n`
  test.each<[string, RepoFiles, boolean]>([
    [
      'the root’s attributes',
      { '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n', 'web/a/model.bin': pointer },
      true,
    ],
    ['attributes in the context', { 'web/a/.gitattributes': '/m* filter=lfs\n', 'web/a/model.bin': pointer }, true],
    ['a macro', { '.gitattributes': '[attr]big filter=lfs\nweb/** big\n', 'web/a/model.bin': pointer }, true],
    ['no attribute', { 'web/a/model.bin': pointer }, false],
    ['an attribute of another directory', { 'other/.gitattributes': '*.bin filter=lfs\n', 'web/a/model.bin': pointer }, false],
    [
      'an attribute taken back',
      { '.gitattributes': '*.bin filter=lfs\nweb/a/*.bin !filter\n', 'web/a/model.bin': pointer },
      false,
    ],
    ['a file that is none', { '.gitattributes': '*.bin filter=lfs\n', 'web/a/model.bin': 'real bytes' }, false],
    ['a pointer elsewhere', { '.gitattributes': '*.bin filter=lfs\n', 'other/model.bin': pointer }, false],
  ])('LFS pointers by %s', async (_, more, isRefused) => {
    const found = collect({ ...files, ...more })
    if (isRefused) await expect(found).rejects.toMatchObject(refusal('lfs_content', 'lfs: true'))
    else await expect(found).resolves.toBeDefined()
    await expect(collect({ ...files, ...more }, { lfs: true })).resolves.toMatchObject({ lfs: true })
  })

  test('an unpinned ADD warns, and is refused by strict: true', async () => {
    const adds: RepoFiles = { ...files, 'web/Dockerfile': 'FROM a\nADD https://user:pw@h.test/x /x\n' }
    const { warnings } = await collect(adds)
    expect(warnings).toEqual([expect.stringContaining('line 2')])
    expect(warnings.join()).not.toContain('pw')
    await expect(collect(adds, { strict: true })).rejects.toMatchObject(refusal('unpinned_url', '--checksum'))
  })
})
