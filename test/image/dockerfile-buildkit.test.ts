import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AnalyseOptions, analyse, localPinReference, pinDockerfile } from '../../src/image/dockerfile.ts'
import { resolvePins } from '../../src/image/pins.ts'
import { findBuildx } from '../../src/io/buildx-find.ts'
import { DockerEngine } from '../../src/io/docker.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import type { Pin } from '../../src/jobs/job.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushImage } from '../support/registry-push.ts'

const run = promisify(execFile)
const unique = `bake-test-${process.pid}-${Date.now()}`
const engine = new DockerEngine()
let registry: TestRegistry
let buildx: string
let home: string

beforeAll(async () => {
  registry = await startRegistry()
  buildx = (await findBuildx())!.path
  home = await mkdtemp(join(tmpdir(), 'bake-pin-'))
})
afterAll(async () => {
  await registry[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

/** Builds and gives the files of the result, name → text. */
async function build(text: string, args: string[] = []): Promise<Record<string, string>> {
  const dir = await mkdtemp(join(home, 'build-'))
  await writeFile(join(dir, 'Dockerfile'), text)
  await writeFile(join(dir, 'own'), 'own\n')
  const out = join(dir, 'out')
  await run(buildx, ['build', '--progress=plain', ...args, '--output', `type=local,dest=${out}`, dir], {
    env: { ...process.env, BUILDX_CONFIG: home },
  })
  const files = (await readdir(out, { withFileTypes: true })).filter((file) => file.isFile())
  return Object.fromEntries(await Promise.all(files.map(async ({ name }) => [name, await readFile(join(out, name), 'utf8')])))
}

async function pins(text: string, options: AnalyseOptions = {}): Promise<{ pins: Pin[]; pinned: string }> {
  const analysis = analyse(text, options)
  const found = await resolvePins(analysis.externals, { registry: new HttpRegistry(), engine })
  return { pins: found, pinned: pinDockerfile(text, analysis, found) }
}

test('a pinned file builds what was pinned, after every tag has moved', async () => {
  const at = `${registry.host}/team`
  for (const name of ['base', 'tools', 'alpine'])
    await pushImage(registry.host, `team/${name}`, '1', { content: `${name} before\n` })
  const text = `# a comment\r
ARG TAG=0\r
ARG HOST=${at}\r
FROM \${HOST}/base:\${TAG} \\\r
  # in between\r
  AS base\r
FROM "${at}/alpine:$TAG" as Alpine\r
COPY <<EOF /heredoc\r
FROM ${at}/nothing:1\r
EOF\r
FROM ${at}/missing:9 AS unused\r
FROM scratch\r
COPY --from=base /content /base\r
COPY --from=alpine /content /alpine\r
COPY --from=1 /heredoc /heredoc\r
COPY --link --from=${at}/tools:1 \\\r
 /content /tools\r
`
  const { pinned, pins: found } = await pins(text, { args: { TAG: '1' } })
  expect(found.map(({ reference, local }) => [reference, local])).toEqual([
    [`${at}/base:1`, undefined],
    [`${at}/alpine:1`, undefined],
    [`${at}/tools:1`, undefined],
  ])
  for (const name of ['base', 'tools', 'alpine'])
    await pushImage(registry.host, `team/${name}`, '1', { content: `${name} after\n` })
  const before = { base: 'base before\n', alpine: 'alpine before\n', tools: 'tools before\n' }
  expect(await build(pinned, ['--build-arg', 'TAG=1'])).toMatchObject({ ...before, heredoc: expect.stringContaining('nothing') })
  expect(await build(text, ['--build-arg', 'TAG=1'])).toMatchObject({ base: 'base after\n' })
})

test('directives, odd line ends and mounts survive pinning', async () => {
  const at = `${registry.host}/team`
  const digest = await pushImage(registry.host, 'team/files', '1', { content: 'files\n' })
  const text = `# escape=\`
FROM ${at}/files:1 AS a
COPY own C:\\
FROM scratch
COPY --from=a \`

  # comment
  /content /one
ADD --chown=0:0 own /two\\\\
COPY --from=${at}/files:1@${digest} /content /three`
  const { pinned } = await pins(text)
  expect(Object.keys(await build(pinned)).sort()).toEqual(['one', 'three', 'two\\\\'])
})

test('a base that only the engine has is built from under its pin; its stage keeps its name, which a named context would take over', async () => {
  const local = `${unique}/base`
  const reference = `${registry.host}/${unique}/base:1`
  await pushImage(registry.host, `${unique}/base`, '1', { content: 'local\n' })
  const docker = (...args: string[]) => run('docker', args)
  await docker('pull', '-q', reference)
  await docker('tag', reference, `${local}:latest`)
  await docker('rmi', reference)
  const text = `FROM ${local} AS ${unique}\nCOPY own /own\nFROM scratch\nCOPY --from=${unique} /own /content /\n`
  const { pins: found, pinned } = await pins(text)
  expect(found).toEqual([{ reference: local, digest: expect.stringMatching(/^sha256:/), local: true }])
  const name = localPinReference(found[0]!)
  await docker('tag', `${local}:latest`, name)
  try {
    expect(await build(pinned)).toEqual({ own: 'own\n', content: 'local\n' })
    // The other way of enforcing pins: the stage `base` starts from an image `base`, and the context takes the place of both.
    const hazard = text.replaceAll(unique, 'base').replace('FROM base/base', 'FROM base')
    await expect(build(hazard, ['--build-context', `base=docker-image://${name}`])).rejects.toThrow(/own.*not found/)
  } finally {
    await docker('rmi', name, `${local}:latest`)
  }
})
