import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type PinRequest, resolvePins } from '../../src/image/pins.ts'
import { DockerEngine } from '../../src/io/docker.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushImage } from '../support/registry-push.ts'

const docker = async (...args: string[]) => (await promisify(execFile)('docker', args)).stdout.trim()
const unique = `bake-test-${process.pid}-${Date.now()}`
const client = new HttpRegistry({ credentials: async () => undefined })
const engine = new DockerEngine()

let registry: TestRegistry
let digest: string
/** An image that only the engine has, under the name of a repository in the registry. */
let local: string
let localId: string
beforeAll(async () => {
  registry = await startRegistry()
  digest = await pushImage(registry.host, 'team/base', '1')
  await pushImage(registry.host, 'team/only-here', '1', { content: unique })
  local = `${registry.host}/${unique}/local:1`
  await docker('pull', '-q', `${registry.host}/team/only-here:1`)
  await docker('tag', `${registry.host}/team/only-here:1`, local)
  await docker('rmi', `${registry.host}/team/only-here:1`)
  localId = await docker('image', 'inspect', '--format', '{{.Id}}', local)
})
afterAll(async () => {
  await docker('rmi', local)
  await registry[Symbol.asyncDispose]()
})

describe('from the registry', () => {
  test('one HEAD for each image, however often and in whatever spelling it is named', async () => {
    await registry.clearRequests()
    const name = `${registry.host}/team/base`
    const pins = await resolvePins([`${name}:1`, `${name}:1`, { reference: `${name}:1`, use: 'copy', line: 3 }], {
      registry: client,
    })
    expect(pins).toEqual([{ reference: `${name}:1`, digest }])
    expect(await registry.requests()).toEqual([{ method: 'HEAD', path: '/v2/team/base/manifests/1', status: 200 }])
  })

  test('a reference with a digest needs no pin and no request', async () => {
    await registry.clearRequests()
    expect(await resolvePins([`${registry.host}/team/base:1@${digest}`], { registry: client })).toEqual([])
    expect(await registry.requests()).toEqual([])
  })

  test('an unknown image is base_not_found with its line', async () => {
    const request: PinRequest = { reference: `${registry.host}/team/bse:1`, use: 'from', line: 7 }
    await expect(resolvePins([request], { registry: client, engine })).rejects.toMatchObject({
      code: 'base_not_found',
      exit: 2,
      message: expect.stringContaining('line 7'),
    })
  })

  test('what is no reference is bad_reference with its line', async () => {
    await expect(resolvePins([{ reference: 'Team/Base:', use: 'from', line: 2 }], { registry: client })).rejects.toMatchObject({
      code: 'bad_reference',
      exit: 2,
      message: expect.stringContaining('line 2'),
    })
  })

  test('a registry that is down is the world’s failure', async () => {
    await using down = await startRegistry()
    await down.stop()
    const asked = resolvePins([{ reference: `${down.host}/a:1`, use: 'copy', line: 4 }], { registry: client, engine })
    await expect(asked).rejects.toMatchObject({
      code: 'registry_unreachable',
      exit: 4,
      kind: 'world',
      message: expect.stringContaining('line 4'),
    })
  })
})

describe('from this machine’s engine', () => {
  test('an image that the registry doesn’t have, with a note', async () => {
    const notes: string[] = []
    const pins = await resolvePins([local], { registry: client, engine, onNote: (text) => notes.push(text) })
    expect(pins).toEqual([{ reference: local, digest: localId, local: true }])
    expect(notes).toEqual([expect.stringContaining(local)])
  })

  test('one named localhost/… belongs to no registry: the engine has it, without a note', async () => {
    const name = `localhost/${unique}:1`
    await docker('tag', local, name)
    const notes: string[] = []
    const pins = await resolvePins([name], { registry: client, engine, onNote: (text) => notes.push(text) })
    await docker('rmi', name)
    expect(pins).toEqual([{ reference: name, digest: localId, local: true }])
    expect(notes).toEqual([])
    await expect(resolvePins([name], { registry: client, engine })).rejects.toMatchObject({ code: 'base_not_found' })
  })

  test('without an engine to ask, as in a fleet, it doesn’t exist', async () => {
    await expect(resolvePins([local], { registry: client })).rejects.toMatchObject({ code: 'base_not_found' })
  })

  test('an image whose registry hangs is used within seconds', async () => {
    await using hung = await startRegistry()
    const name = `${hung.host}/${unique}:1`
    await docker('tag', local, name)
    process.kill(hung.pid, 'SIGSTOP')
    try {
      const started = performance.now()
      expect(await resolvePins([name], { registry: client, engine })).toEqual([{ reference: name, digest: localId, local: true }])
      expect(performance.now() - started).toBeLessThan(5000)
    } finally {
      process.kill(hung.pid, 'SIGCONT')
      await docker('rmi', name)
    }
  })

  test('the registry decides about an image that both have, and a note says so', async () => {
    const both = `${registry.host}/team/both:1`
    await docker('tag', local, both)
    const remote = await pushImage(registry.host, 'team/both', '1', { content: 'newer' })
    const notes: string[] = []
    try {
      const pins = await resolvePins([both], { registry: client, engine, onNote: (text) => notes.push(text) })
      expect(pins).toEqual([{ reference: both, digest: remote }])
      expect(notes).toEqual([expect.stringContaining('not used')])
    } finally {
      await docker('rmi', both)
    }
  })

  test('the built-in frontend stands in for docker/dockerfile:1 when Docker Hub can’t be reached, never for a labs one', async () => {
    const offline = {
      ...client,
      head: (reference: Parameters<HttpRegistry['head']>[0]) => client.head({ ...reference, host: '127.0.0.1:9' }),
    }
    const notes: string[] = []
    const options = {
      registry: Object.assign(Object.create(client), offline),
      engine,
      onNote: (text: string) => notes.push(text),
    }
    expect(await resolvePins([{ reference: 'docker/dockerfile:1', use: 'syntax', line: 1 }], options)).toEqual([])
    expect(notes).toEqual([expect.stringContaining('built-in')])
    const labs: PinRequest = { reference: 'docker/dockerfile:1-labs', use: 'syntax', line: 1 }
    await expect(resolvePins([labs], options)).rejects.toMatchObject({ code: 'registry_unreachable' })
    await expect(
      resolvePins([{ ...labs, reference: 'docker/dockerfile:1' }], { ...options, engine: undefined }),
    ).rejects.toMatchObject({
      code: 'registry_unreachable',
    })
  })
})
