import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'
import { unavailable } from '../../src/errors.ts'
import { printBake } from '../../src/init/world.ts'
import { applyInit, planInit, planText, schemaFor } from '../../src/init.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-init-'))
})
afterEach(() => rm(dir, { recursive: true }))

async function files(texts: Record<string, string>) {
  for (const [path, text] of Object.entries(texts)) {
    await mkdir(dirname(join(dir, path)), { recursive: true })
    await writeFile(join(dir, path), text)
  }
}

const plan = (more: { from?: string; project?: string; force?: boolean } = {}) =>
  planInit({ dir, force: false, project: 'shop', ...more }, printBake)

describe('bake init from Dockerfiles', () => {
  it('takes one image per Dockerfile, dependencies left out', async () => {
    await files({
      Dockerfile: '',
      'Dockerfile.dev': '',
      'api/Dockerfile': '',
      'api/web.Dockerfile': '',
      'node_modules/x/Dockerfile': '',
      '.git/Dockerfile': '',
      'Dockerfile.dockerignore': '',
    })
    expect((await plan()).images).toEqual([
      { name: 'shop', context: '.' },
      { name: 'dev', context: '.', dockerfile: 'Dockerfile.dev' },
      { name: 'api', context: 'api' },
      { name: 'web', context: 'api', dockerfile: 'web.Dockerfile' },
    ])
  })

  it('gives equal names a number and makes names valid', async () => {
    await files({ 'a/My App/Dockerfile': '', 'b/My_App/Dockerfile': '', 'c/my-app/Dockerfile': '' })
    expect((await plan()).images.map(({ name }) => name)).toEqual(['my-app', 'my_app', 'my-app-2'])
  })

  it('says so when there is nothing to build', async () => {
    await expect(plan()).rejects.toMatchObject({ code: 'nothing_to_build', exit: 2 })
  })
})

describe('bake init from compose', () => {
  const compose = `
x-args: &args { VERSION: 1.10 }
services:
  web: { build: . , image: "acme/web:1", env_file: missing.env }
  api:
    build:
      context: ./api
      dockerfile: docker/Dockerfile
      target: prod
      args: { <<: *args, DEBUG: true, FROM_ENV: }
      secrets: [npm_token, { source: pip }]
      ssh: [default]
      network: host
      platforms: [linux/arm64]
      additional_contexts: { shared: ./shared, base: docker-image://alpine:3 }
  worker: { build: . , command: work, depends_on: [db, web], volumes_from: [db], network_mode: "service:db" }
  My.Cron: { build: "\${CRON:-cron}" }
  db: { image: "postgres:16" }
  outside: { build: ../elsewhere }
  gone: { build: nowhere }
secrets:
  npm_token: { environment: NPM_TOKEN }
  pip: { file: ./missing }
`

  it('takes the services with build, in their order, and tells why others are left out', async () => {
    await files({
      'compose.yaml': compose,
      Dockerfile: '',
      'api/docker/Dockerfile': '',
      'cron/Dockerfile': '',
      'shared/x': '',
      'other/Dockerfile': '',
    })
    const found = await plan()
    expect(found.images).toEqual([
      { name: 'web', context: '.' },
      {
        name: 'api',
        context: 'api',
        dockerfile: 'docker/Dockerfile',
        target: 'prod',
        platforms: ['linux/arm64'],
        args: { VERSION: '1.1', DEBUG: 'true' },
        secrets: ['npm_token', 'pip'],
        ssh: ['default'],
        contexts: { shared: 'shared', base: 'docker-image://alpine:3' },
        network: 'host',
      },
      { name: 'my_cron', context: 'cron' },
    ])
    expect(found.leftOut).toEqual([
      { name: 'outside', reason: expect.stringContaining('context must not have ..') },
      { name: 'gone', reason: 'there is no nowhere/Dockerfile' },
      { name: 'worker', reason: 'it is built exactly like web' },
      { name: 'db', reason: 'it has no build' },
    ])
    expect(found.notes).toEqual(['not used by compose.yaml: other/Dockerfile'])
  })

  it('writes a file that is valid, says where editors find the schema, and keeps every setting', async () => {
    await files({ 'compose.yaml': compose, Dockerfile: '', 'api/docker/Dockerfile': '', 'cron/Dockerfile': '' })
    const made = await plan()
    expect(await schemaFor(dir)).toBeUndefined()
    await files({ 'node_modules/bakehouse/schema/bake.schema.json': '{}' })
    const schema = await schemaFor(dir)
    expect(schema).toBe('./node_modules/bakehouse/schema/bake.schema.json')
    const text = planText(made, schema)
    expect(text.split('\n')[0]).toBe(`# yaml-language-server: $schema=${schema}`)
    await applyInit(made, text)
    const config = parseConfig(await readFile(join(dir, 'bake.yaml'), 'utf8'), 'bake.yaml')
    expect(config.images.map(({ name }) => name)).toEqual(['web', 'api', 'my_cron'])
    expect(config.images[1]).toMatchObject({
      args: { DEBUG: 'true' },
      secrets: [{ id: 'npm_token' }, { id: 'pip' }],
      network: 'host',
      contexts: { shared: 'shared' },
    })
  })

  it('starts paths at bake.yaml when the file is elsewhere', async () => {
    await files({ 'deploy/compose.yaml': 'services: { web: { build: { context: .. , dockerfile: docker/D } } }', 'docker/D': '' })
    expect((await plan({ from: 'deploy/compose.yaml' })).images).toEqual([{ name: 'web', context: '.', dockerfile: 'docker/D' }])
  })

  it('falls back to Dockerfiles when it is broken, and refuses when it was named', async () => {
    await files({ 'compose.yaml': 'services: [', Dockerfile: '' })
    const found = await plan()
    expect(found.images).toEqual([{ name: 'shop', context: '.' }])
    expect(found.notes).toEqual([expect.stringContaining("compose.yaml can't be read, so bake looked for Dockerfiles instead")])
    await expect(plan({ from: 'compose.yaml' })).rejects.toMatchObject({ code: 'compose_invalid', exit: 2 })
  })
})

describe('bake init from docker-bake', () => {
  const hcl = `
variable "V" {
  default = "2"
}
group "default" {
  targets = ["web", "api"]
}
target "_base" {
  args = { V = V }
}
target "web" {
  inherits = ["_base"]
  dockerfile = "docker/web.Dockerfile"
  target = "final"
  platforms = ["linux/amd64", "linux/arm64"]
  secret = ["id=npm_token,env=NPM_TOKEN"]
  ssh = ["default"]
  contexts = { base = "docker-image://alpine:3" }
  tags = ["acme/web:1"]
  labels = { a = "b" }
}
target "api" {
  context = "api"
}
target "tool" {
  context = "tool"
}
target "far" {
  context = "https://github.com/acme/far.git"
}
target "near" {
  contexts = { web = "target:web" }
}
`
  const sources = { 'docker/web.Dockerfile': '', 'api/Dockerfile': '', 'tool/Dockerfile': '', Dockerfile: '' }

  it('takes its default group, without asking for an ssh agent', async () => {
    await files({ 'docker-bake.hcl': hcl, ...sources })
    const agent = process.env.SSH_AUTH_SOCK
    delete process.env.SSH_AUTH_SOCK
    const found = await plan().finally(() => {
      if (agent !== undefined) process.env.SSH_AUTH_SOCK = agent
    })
    expect(found.images).toEqual([
      {
        name: 'web',
        context: '.',
        dockerfile: 'docker/web.Dockerfile',
        target: 'final',
        platforms: ['linux/amd64', 'linux/arm64'],
        args: { V: '2' },
        secrets: ['npm_token'],
        ssh: ['default'],
        contexts: { base: 'docker-image://alpine:3' },
      },
      { name: 'api', context: 'api' },
    ])
    expect(found.notes).toContain('web: bake has no labels')
    expect((await readdir(tmpdir())).filter((name) => name.startsWith('bake-agent-'))).toEqual([])
  })

  it('takes every target when there is no default group', async () => {
    await files({ 'docker-bake.hcl': hcl.replace('"default"', '"all"'), ...sources })
    const found = await plan()
    expect(found.images.map(({ name }) => name)).toEqual(['web', 'api', 'tool'])
    expect(found.leftOut.map(({ name }) => name)).toEqual(['far', 'near'])
  })

  it('reads JSON, and an override over it', async () => {
    await files({
      'docker-bake.json': '{"target":{"default":{"context":"api"}}}',
      'docker-bake.override.json': '{"target":{"default":{"target":"slim"}}}',
      ...sources,
    })
    expect((await plan()).images).toEqual([{ name: 'default', context: 'api', target: 'slim' }])
  })

  it('tells what buildx says of a broken one that was named', async () => {
    await files({ 'docker-bake.hcl': 'target "a" {', ...sources })
    await expect(plan({ from: 'docker-bake.hcl' })).rejects.toMatchObject({ code: 'bake_file_refused', exit: 2 })
  })

  it('takes Dockerfiles when buildx is missing, and says why', async () => {
    await files({ 'docker-bake.hcl': hcl, Dockerfile: '' })
    const missing = () =>
      Promise.reject(unavailable('buildx_missing', 'the docker-buildx plugin is not installed', { next: 'install it' }))
    const found = await planInit({ dir, project: 'shop', force: false }, missing)
    expect(found.images).toEqual([{ name: 'shop', context: '.' }])
    expect(found.notes).toEqual([
      "docker-bake.hcl can't be read, so bake looked for Dockerfiles instead: the docker-buildx plugin is not installed (install it)",
    ])
  })
})

describe('bake init and a bake.yaml that is there', () => {
  it('refuses before it looks at anything, and again when one appears meanwhile', async () => {
    await files({ Dockerfile: '' })
    const made = await plan()
    await files({ 'bake.yaml': 'mine' })
    await expect(plan()).rejects.toMatchObject({ code: 'config_exists', exit: 2 })
    await expect(applyInit(made, 'text')).rejects.toMatchObject({ code: 'config_exists' })
    expect(await readFile(join(dir, 'bake.yaml'), 'utf8')).toBe('mine')
  })

  it('replaces it with --force, and leaves no other file', async () => {
    await files({ Dockerfile: '', 'bake.yaml': 'mine' })
    await applyInit(await plan({ force: true }), 'text')
    expect(await readFile(join(dir, 'bake.yaml'), 'utf8')).toBe('text')
    expect((await readdir(dir)).sort()).toEqual(['Dockerfile', 'bake.yaml'])
  })

  it('refuses a project that is no name, with one that is', async () => {
    await files({ Dockerfile: '' })
    await expect(plan({ project: 'My Shop!' })).rejects.toMatchObject({
      code: 'project_invalid',
      exit: 2,
      next: 'bake init --project my-shop',
    })
  })
})
