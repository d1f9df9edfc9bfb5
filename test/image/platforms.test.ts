import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { analyse } from '../../src/image/dockerfile.ts'
import { resolvePins } from '../../src/image/pins.ts'
import { checkPlatforms } from '../../src/image/platforms.ts'
import { emulatedPlatforms } from '../../src/io/binfmt.ts'
import { DockerEngine } from '../../src/io/docker.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { formatPlatform, parsePlatform } from '../../src/platform-name.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushImage } from '../support/registry-push.ts'

test.each([
  ['linux/amd64', 'linux/amd64'],
  ['linux/x86_64', 'linux/amd64'],
  ['Linux/aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['linux/amd64/v3', 'linux/amd64/v3'],
])('%s is %s', (text, normal) => {
  expect(formatPlatform(parsePlatform(text))).toBe(normal)
})

test.each(['linux', 'linux/', 'linux/amd64/v1/x', 'linux/a b', ''])('%j is bad_platform', (text) => {
  expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'bad_platform', exit: 2 }))
})

describe('checkPlatforms', () => {
  const engine = new DockerEngine()
  let registry: TestRegistry
  beforeAll(async () => {
    registry = await startRegistry()
    await pushImage(registry.host, 'multi', '1', { platforms: ['linux/amd64', 'linux/arm64/v8', 'linux/arm/v6'] })
    await pushImage(registry.host, 'amd', '1')
  })
  afterAll(() => registry[Symbol.asyncDispose]())

  /** `@x` in the text is `<registry>/x:1`. */
  async function check(text: string, platforms: string[], emulated: string[] = [], client = new HttpRegistry()) {
    const analysis = analyse(text.replace(/@(\w+)/g, `${registry.host}/$1:1`), { platforms, buildPlatform: 'linux/amd64' })
    const pins = await resolvePins(analysis.externals, { registry: client })
    await registry.clearRequests()
    await checkPlatforms({ platforms, analysis, pins, registry: client, engine, emulated: async () => emulated })
  }
  const missing = (line: number, platform: string) => ({
    code: 'platform_missing',
    exit: 4,
    message: expect.stringMatching(new RegExp(`line ${line}: .*${platform}`)),
    next: expect.stringContaining('platforms:'),
  })

  test('bases that offer what is built, variants included', async () => {
    await expect(check('FROM @multi\n', ['linux/amd64', 'linux/arm64', 'linux/arm/v7'])).resolves.toBeUndefined()
    await expect(check('FROM @amd\n', ['linux/amd64'])).resolves.toBeUndefined()
    await expect(
      check('FROM --platform=$BUILDPLATFORM @amd AS b\nFROM scratch\nCOPY --from=b /a /a\n', ['linux/arm64']),
    ).resolves.toBeUndefined()
  })

  test('a base that doesn’t: from an index, from a plain image, by COPY --from', async () => {
    await expect(check('FROM @multi\n', ['linux/amd64', 'linux/s390x'])).rejects.toMatchObject(missing(1, 'linux/s390x'))
    await expect(check('FROM @multi\n', ['linux/arm/v5'])).rejects.toMatchObject(missing(1, 'linux/arm/v5'))
    await expect(check('FROM @amd\n', ['linux/arm64'])).rejects.toMatchObject(missing(1, 'linux/arm64'))
    await expect(check('FROM scratch\nCOPY --from=@amd /content /c\n', ['linux/arm64'])).rejects.toMatchObject(
      missing(2, 'linux/arm64'),
    )
  })

  test('a manifest is read once by one client, however many builds there are', async () => {
    const client = new HttpRegistry()
    await check('FROM @amd\n', ['linux/amd64'], [], client)
    expect((await registry.requests()).map(({ method }) => method)).toEqual(['GET', 'GET'])
    await check('FROM @amd\n', ['linux/amd64'], [], client)
    expect(await registry.requests()).toEqual([])
  })

  test('a manifest that is gone is base_gone', async () => {
    const digest = await pushImage(registry.host, 'gone', '1', { content: 'gone' })
    const reference = `${registry.host}/gone:1`
    const analysis = analyse(`FROM ${reference}\n`, { platforms: ['linux/amd64'] })
    await registry.deleteManifest('gone', digest)
    const asked = checkPlatforms({
      platforms: ['linux/amd64'],
      analysis,
      pins: [{ reference, digest }],
      registry: new HttpRegistry(),
      engine,
      emulated: emulatedPlatforms,
    })
    await expect(asked).rejects.toMatchObject({ code: 'base_gone', exit: 4 })
  })

  test('a foreign stage that runs commands needs an emulator', async () => {
    const text = 'FROM @multi AS other\nRUN x\nFROM @multi\nRUN make\n'
    await expect(check(text, ['linux/amd64', 'linux/arm64'])).rejects.toMatchObject({
      code: 'emulation_missing',
      exit: 4,
      message: expect.stringContaining('line 3'),
      next: expect.stringContaining('binfmt'),
    })
    await expect(check(text, ['linux/amd64', 'linux/arm64'], ['linux/arm64'])).resolves.toBeUndefined()
    await expect(check('FROM @multi\nCOPY a b\n', ['linux/arm64'])).resolves.toBeUndefined()
    await expect(
      check('FROM --platform=$BUILDPLATFORM @multi AS b\nRUN x\nFROM @multi\nCOPY --from=b /a /a\n', ['linux/arm64']),
    ).resolves.toBeUndefined()
    await expect(
      check('FROM --platform=linux/arm64 @multi AS b\nRUN x\nFROM @multi\nCOPY --from=b /a /a\n', ['linux/amd64']),
    ).rejects.toMatchObject({
      code: 'emulation_missing',
    })
  })
})

test('emulatedPlatforms: enabled entries that work inside a container', async () => {
  const root = await mkdtemp(join(tmpdir(), 'bake-binfmt-'))
  try {
    await mkdir(join(root, 'directory'))
    const entry = (state: string, flags: string) => `${state}\ninterpreter /usr/bin/qemu\nflags: ${flags}\noffset 0\n`
    await writeFile(join(root, 'qemu-aarch64'), entry('enabled', 'OCF'))
    await writeFile(join(root, 'qemu-s390x'), entry('disabled', 'OCF'))
    await writeFile(join(root, 'qemu-riscv64'), entry('enabled', 'OC'))
    await writeFile(join(root, 'python3.11'), entry('enabled', 'F'))
    await writeFile(join(root, 'status'), 'enabled\n')
    expect(await emulatedPlatforms(root)).toEqual(['linux/arm64'])
    expect(await emulatedPlatforms(join(root, 'missing'))).toEqual([])
  } finally {
    await rm(root, { recursive: true })
  }
})
