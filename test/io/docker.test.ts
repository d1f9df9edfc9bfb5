import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { dockerEndpoint } from '../../src/io/docker-endpoint.ts'
import { sha256 } from '../../src/names.ts'
import { BASE } from './support/building.ts'
import { removeImage } from './support/engine-cleanup.ts'
import { startEngineProxy } from './support/engine-proxy.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-docker-'))
})
afterAll(() => rm(dir, { recursive: true }))

describe('DockerEngine', () => {
  test('tells what this machine’s engine is', async () => {
    const engine = new DockerEngine()
    await engine.ping()
    expect(await engine.info()).toEqual({
      version: expect.stringMatching(/^\d+\.\d+/),
      containerdStore: true,
      os: 'linux',
      architecture: expect.stringMatching(/^(x86_64|aarch64)$/),
      dataRoot: '/var/lib/docker',
      id: expect.stringMatching(/\S/),
    })
  })

  test('finds images by reference and by id, and none that is not there', async () => {
    const engine = new DockerEngine()
    const image = await engine.image(BASE)
    expect(image).toMatchObject({ id: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), os: 'linux' })
    expect(await engine.image(image!.id)).toEqual(image)
    expect(await engine.image('bake-test/nothing:1')).toBeUndefined()
    expect(await engine.image('localhost:5000/../info?x=')).toBeUndefined()
  })

  test('gives an image another name', async () => {
    const engine = new DockerEngine()
    const { id } = (await engine.image(BASE))!
    await engine.tag(id, 'bake-test/docker', 'tagged')
    expect((await engine.image('bake-test/docker:tagged'))?.id).toBe(id)
    await removeImage('bake-test/docker:tagged')
    await expect(engine.tag('bake-test/nothing:1', 'bake-test/docker', 'x')).rejects.toMatchObject({
      code: 'engine_error',
      exit: 4,
    })
  })

  test('speaks TCP too, and knows no data root there', async () => {
    await using proxy = await startEngineProxy()
    const engine = new DockerEngine({ DOCKER_HOST: proxy.host })
    await engine.ping()
    expect(await engine.info()).toMatchObject({ containerdStore: true, dataRoot: undefined })
    expect(await engine.image(BASE)).toEqual(await new DockerEngine().image(BASE))
    expect(await engine.image('bake-test/nothing:1')).toBeUndefined()
    await engine.tag(BASE, 'bake-test/docker', 'tcp')
    await removeImage('bake-test/docker:tcp')
  })

  test.each([
    ['no socket', () => `unix://${dir}/nothing.sock`],
    ['a closed port', () => 'tcp://127.0.0.1:1'],
  ])('%s: engine_unreachable', async (_, host) => {
    const engine = new DockerEngine({ DOCKER_HOST: host() })
    const expected = {
      kind: 'world',
      code: 'engine_unreachable',
      exit: 4,
      next: expect.stringContaining('bin/setup'),
      ids: { engine: host() },
    }
    await expect(engine.ping()).rejects.toMatchObject(expected)
    await expect(engine.info()).rejects.toMatchObject(expected)
  })

  test.runIf(process.getuid?.() === 0)('a socket that this user may not use: engine_denied', async () => {
    const socket = join(dir, 'denied.sock')
    const server = createServer().listen(socket)
    await chmod(dir, 0o755)
    await chmod(socket, 0o600)
    process.seteuid?.(65534)
    try {
      await expect(new DockerEngine({ DOCKER_HOST: `unix://${socket}` }).ping()).rejects.toMatchObject({
        code: 'engine_denied',
        exit: 4,
        next: expect.stringContaining('docker'),
      })
    } finally {
      process.seteuid?.(0)
      server.close()
    }
  })
})

describe('dockerEndpoint', () => {
  const configure = async (name: string, config: object) => {
    const home = join(dir, name)
    await mkdir(home, { recursive: true })
    await writeFile(join(home, 'config.json'), JSON.stringify(config))
    return home
  }

  test('DOCKER_HOST, with certificates when TLS is asked for', async () => {
    expect(await dockerEndpoint({ DOCKER_HOST: 'tcp://h:2376', DOCKER_CERT_PATH: '/c' })).toEqual({ host: 'tcp://h:2376' })
    expect(await dockerEndpoint({ DOCKER_HOST: 'tcp://h:2376', DOCKER_CERT_PATH: '/c', DOCKER_TLS_VERIFY: '1' })).toEqual({
      host: 'tcp://h:2376',
      certificates: '/c',
    })
  })

  test('the current context, and DOCKER_CONTEXT before it', async () => {
    const home = await configure('contexts', { currentContext: 'rootless' })
    for (const [name, host] of [
      ['rootless', 'unix:///run/user/1000/docker.sock'],
      ['far', 'tcp://far:2376'],
    ] as const) {
      await mkdir(join(home, 'contexts/meta', sha256(name)), { recursive: true })
      await writeFile(
        join(home, 'contexts/meta', sha256(name), 'meta.json'),
        JSON.stringify({ Name: name, Endpoints: { docker: { Host: host } } }),
      )
    }
    const tls = join(home, 'contexts/tls', sha256('far'), 'docker')
    await mkdir(tls, { recursive: true })
    await writeFile(join(tls, 'ca.pem'), '')
    expect(await dockerEndpoint({ DOCKER_CONFIG: home })).toEqual({ host: 'unix:///run/user/1000/docker.sock' })
    expect(await dockerEndpoint({ DOCKER_CONFIG: home, DOCKER_CONTEXT: 'far' })).toEqual({
      host: 'tcp://far:2376',
      certificates: tls,
    })
    expect(await dockerEndpoint({ DOCKER_CONFIG: home, DOCKER_CONTEXT: 'default' })).toEqual({
      host: 'unix:///var/run/docker.sock',
    })
    await expect(dockerEndpoint({ DOCKER_CONFIG: home, DOCKER_CONTEXT: 'gone' })).rejects.toMatchObject({
      code: 'engine_context_unknown',
      exit: 4,
    })
  })

  test('the default socket without configuration, or with one that is damaged', async () => {
    expect(await dockerEndpoint({ DOCKER_CONFIG: join(dir, 'none') })).toEqual({ host: 'unix:///var/run/docker.sock' })
    const damaged = await configure('damaged', {})
    await writeFile(join(damaged, 'config.json'), '{')
    expect(await dockerEndpoint({ DOCKER_CONFIG: damaged })).toEqual({ host: 'unix:///var/run/docker.sock' })
  })
})
