import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hostStatus, stopHost } from '../../../src/io/host/client.ts'
import { portHolder } from '../../../src/io/host/port-holder.ts'
import { waitFor } from '../../../src/wait.ts'
import { hostProject, kill9 } from '../../support/host.ts'

const run = promisify(execFile)
const portOf = (registry: string | undefined) => Number(registry?.split(':')[1])

/** Pushes a blob and a manifest through the OCI distribution API and gives the manifest's digest. */
async function push(registry: string, repository: string): Promise<string> {
  const at = `http://${registry}/v2/${repository}`
  const upload = async (bytes: Buffer) => {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const started = await fetch(`${at}/blobs/uploads/`, { method: 'POST' })
    const location = new URL(started.headers.get('location') ?? '', at)
    location.searchParams.set('digest', digest)
    expect((await fetch(location, { method: 'PUT', body: new Uint8Array(bytes) })).status).toBe(201)
    return { digest, size: bytes.length }
  }
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...(await upload(Buffer.from('{}'))) },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...(await upload(randomBytes(1000))) }],
  })
  const put = await fetch(`${at}/manifests/v1`, {
    method: 'PUT',
    headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    body: manifest,
  })
  expect(put.status).toBe(201)
  return put.headers.get('docker-content-digest') ?? ''
}

const head = async (registry: string, repository: string) =>
  (
    await fetch(`http://${registry}/v2/${repository}/manifests/v1`, {
      method: 'HEAD',
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    }).catch(() => undefined)
  )?.headers.get('docker-content-digest')

describe('the registry as a process', () => {
  it('takes pushes, logs each request, and keeps everything over kill -9', async () => {
    await using project = await hostProject()
    const first = await project.connect({ needsRegistry: true })
    const digest = await push(first.registry!, 'shop/web')
    expect(await head(first.registry!, 'shop/web')).toBe(digest)
    const log = await readFile(join(project.stateDir, 'registry.log'), 'utf8')
    expect(log.match(/"HEAD \/v2\/shop\/web\/manifests\/v1 HTTP/g)).toHaveLength(1)

    const registry = await portHolder(portOf(first.registry))
    await kill9(first.pid)
    await waitFor(async () => ((await portHolder(portOf(first.registry)))?.pid === registry?.pid ? undefined : true), {
      what: 'the registry to die with its host',
      deadlineMs: 3_000,
      intervalMs: 20,
    })
    const second = await project.connect({ needsRegistry: true })
    expect(second.registry).toBe(first.registry)
    expect(await head(second.registry!, 'shop/web')).toBe(digest)
  })

  it('lets a manifest be deleted', async () => {
    await using project = await hostProject()
    const { registry } = await project.connect({ needsRegistry: true })
    const digest = await push(registry!, 'a')
    expect((await fetch(`http://${registry}/v2/a/manifests/${digest}`, { method: 'DELETE' })).status).toBe(202)
    expect(await head(registry!, 'a')).toBeNull()
  })

  it('takes a push of the Docker engine as localhost', async () => {
    await using project = await hostProject()
    const { registry } = await project.connect({ needsRegistry: true })
    const reference = `${registry}/tiny:1`
    await using _image = await tinyImage(reference, 'FROM scratch\nCOPY hello /\n')
    await run('docker', ['push', '-q', '--', reference])
    const tags = await fetch(`http://${registry}/v2/tiny/tags/list`)
    expect(await tags.json()).toEqual({ name: 'tiny', tags: ['1'] })
  })

  it('is started later for a client that needs it, and listens on loopback only', async () => {
    await using project = await hostProject()
    const without = await project.connect()
    expect(without.registry).toBeUndefined()
    const withRegistry = await project.connect({ needsRegistry: true })
    expect(withRegistry.pid).toBe(without.pid)
    expect((await fetch(`http://${withRegistry.registry}/v2/`)).status).toBe(200)
    const hex = portOf(withRegistry.registry).toString(16).toUpperCase()
    const tcp = `${await readFile('/proc/net/tcp', 'utf8')}${await readFile('/proc/net/tcp6', 'utf8')}`
    expect(tcp.match(new RegExp(`\\S+:${hex} \\S+ 0A`, 'g'))).toEqual([`0100007F:${hex} 00000000:0000 0A`])
  })

  it('is started again when it dies, and its clients are told', async () => {
    await using project = await hostProject()
    const notices: string[] = []
    const { registry } = await project.connect({ needsRegistry: true, onNotice: (text) => notices.push(text) })
    const digest = await push(registry!, 'b')
    const before = await portHolder(portOf(registry))
    process.kill(before!.pid, 'SIGKILL')
    await waitFor(async () => ((await head(registry!, 'b')) === digest ? true : undefined), {
      what: 'the registry to come back',
      deadlineMs: 10_000,
      intervalMs: 50,
    })
    expect((await portHolder(portOf(registry)))?.pid).not.toBe(before?.pid)
    expect(notices.join()).toContain('the registry ended (SIGKILL)')
  })

  it('ends with its host', async () => {
    await using project = await hostProject()
    const { registry } = await project.connect({ needsRegistry: true })
    await stopHost(project.stateDir)
    expect(await portHolder(portOf(registry))).toBeUndefined()
  })

  it('names who holds its port', async () => {
    await using project = await hostProject()
    const { registry } = await project.connect({ needsRegistry: true })
    await stopHost(project.stateDir)
    const taker = createServer()
    await new Promise<void>((resolve) => taker.listen(portOf(registry), '0.0.0.0', resolve))
    const ids = { port: String(portOf(registry)), pid: String(process.pid) }
    await expect(project.connect({ needsRegistry: true })).rejects.toMatchObject({ code: 'port_taken', exit: 4, ids })
    // Another client, that needs none, is served, and the one that does is told what is wrong.
    await project.connect()
    await expect(project.connect({ needsRegistry: true })).rejects.toMatchObject({ code: 'port_taken', ids })
    expect(await hostStatus(project.stateDir)).toMatchObject({ running: true, clients: [{}] })
    taker.close()
    expect((await project.connect({ needsRegistry: true })).registry).toBe(registry)
  })

  it('shows the log of one that does not start', async () => {
    await using project = await hostProject()
    await project.connect()
    await writeFile(join(project.stateDir, 'registry'), 'no directory')
    await expect(project.connect({ needsRegistry: true })).rejects.toMatchObject({ code: 'state_dir_denied', exit: 4 })
  })
})

describe('the registry as a container', () => {
  const image = `bake-test/registry:${process.pid}`
  let built: AsyncDisposable
  const containers = async (stateDir: string) =>
    (await run('docker', ['ps', '-aq', '--no-trunc', '--filter', `label=bake.host=${stateDir}`])).stdout
      .split('\n')
      .filter(Boolean)

  beforeAll(async () => {
    // Stands in for registry:2, which has the same paths; the binary is Debian's.
    built = await tinyImage(
      image,
      'FROM localhost/bakehouse/base:bookworm\nCOPY docker-registry config.yml /\nEXPOSE 5000\nCMD ["/docker-registry", "serve", "/config.yml"]\n',
      async (dir) => {
        await copyFile('/usr/bin/docker-registry', join(dir, 'docker-registry'))
        await writeFile(
          join(dir, 'config.yml'),
          'version: 0.1\nstorage: {filesystem: {rootdirectory: /nowhere}}\nhttp: {addr: ":1"}\n',
        )
      },
    )
  })
  afterAll(() => built?.[Symbol.asyncDispose]())

  it('serves from the state directory, logs, and leaves no container', async () => {
    await using project = await hostProject({ BAKE_REGISTRY_IMAGE: image })
    const { registry } = await project.connect({ needsRegistry: true })
    expect(await containers(project.stateDir)).toHaveLength(1)
    const digest = await push(registry!, 'shop/web')
    expect(await head(registry!, 'shop/web')).toBe(digest)
    await waitFor(
      async () =>
        (await readFile(join(project.stateDir, 'registry.log'), 'utf8')).includes('"HEAD /v2/shop/web/manifests/v1 HTTP')
          ? true
          : undefined,
      { what: 'the access log', deadlineMs: 3_000, intervalMs: 50 },
    )
    await stopHost(project.stateDir)
    expect(await containers(project.stateDir)).toEqual([])
  })

  it('is replaced after kill -9 of its host, with everything in it', async () => {
    await using project = await hostProject({ BAKE_REGISTRY_IMAGE: image })
    const first = await project.connect({ needsRegistry: true })
    const digest = await push(first.registry!, 'c')
    const before = await containers(project.stateDir)
    await kill9(first.pid)
    expect(await containers(project.stateDir)).toEqual(before)
    const second = await project.connect({ needsRegistry: true })
    expect(second.registry).toBe(first.registry)
    expect(await head(second.registry!, 'c')).toBe(digest)
    const after = await containers(project.stateDir)
    expect(after).toHaveLength(1)
    expect(after).not.toEqual(before)
  })

  it('says what to install when its image can not be had, or does not run', async () => {
    await using project = await hostProject({ BAKE_REGISTRY_IMAGE: 'localhost:1/no/such:image' })
    await expect(project.connect({ needsRegistry: true })).rejects.toMatchObject({
      code: 'registry_missing',
      exit: 4,
      next: expect.stringContaining('docker-registry'),
    })
    await using broken = await hostProject({ BAKE_REGISTRY_IMAGE: 'localhost/bakehouse/base:bookworm' })
    await expect(broken.connect({ needsRegistry: true })).rejects.toMatchObject({ code: 'registry_failed', exit: 4 })
    expect(await containers(broken.stateDir)).toEqual([])
  })

  it('says what to install without an engine', async () => {
    await using project = await hostProject({ BAKE_REGISTRY_IMAGE: image, DOCKER_HOST: 'unix:///nowhere/docker.sock' })
    await expect(project.connect({ needsRegistry: true })).rejects.toMatchObject({ code: 'registry_missing', exit: 4 })
  })
})

/** Builds a throw-away image from a directory that holds a file `hello` and whatever `fill` puts there. */
async function tinyImage(reference: string, dockerfile: string, fill?: (dir: string) => Promise<void>): Promise<AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-image-'))
  await writeFile(join(dir, 'Dockerfile'), dockerfile)
  await writeFile(join(dir, 'hello'), randomBytes(8).toString('hex'))
  await fill?.(dir)
  await run('docker', ['build', '-q', '-t', reference, '--', dir])
  await rm(dir, { recursive: true })
  return {
    async [Symbol.asyncDispose]() {
      await run('docker', ['image', 'rm', '-f', reference])
    },
  }
}
