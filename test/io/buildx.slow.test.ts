import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BASE, openWorkshop, type Workshop } from './support/building.ts'
import { removeImage } from './support/engine-cleanup.ts'

let registry: TestRegistry
let shop: Workshop
beforeAll(async () => {
  registry = await startRegistry()
  shop = await openWorkshop()
})
afterAll(async () => {
  await shop[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
})

interface Document {
  config: { digest: string; mediaType: string }
  manifests: { platform: { os: string; architecture: string } }[]
}
const OCI = 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json'
async function manifest(repository: string, reference: string) {
  const answer = await fetch(`http://${registry.host}/v2/${repository}/manifests/${reference}`, { headers: { accept: OCI } })
  return { status: answer.status, digest: answer.headers.get('docker-content-digest'), body: (await answer.json()) as Document }
}
const SMALL = 'FROM scratch\nCOPY unique /\n'

describe('a build that succeeds', () => {
  test('is in the registry under every name, with the digest that is told', async () => {
    const push = ['one', 'two'].map((tag) => `${registry.host}/app/web:${tag}`)
    const { digest, error, steps } = await shop.build(await shop.request(SMALL, { push }))
    expect(error).toBeUndefined()
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect((await manifest('app/web', 'one')).digest).toBe(digest)
    expect((await manifest('app/web', 'two')).digest).toBe(digest)
    expect(steps).toEqual({ total: 1, cached: 0 })
  })

  test('counts the steps that were cached', async () => {
    const request = await shop.request(`FROM ${BASE}\nARG UNIQUE\nRUN echo "$UNIQUE" >/x\nCOPY Dockerfile /\n`, {
      push: [`${registry.host}/steps:1`],
    })
    const first = await shop.build(request)
    const second = await shop.build(request)
    expect(first.steps).toEqual({ total: 3, cached: 1 })
    expect(second.steps).toEqual({ total: 3, cached: 3 })
    expect(second.digest).toBe(first.digest)
  })

  test('pushes each name once, and has no need to keep the image in the engine', async () => {
    const reference = `${registry.host}/once:1`
    await registry.clearRequests()
    await shop.build(await shop.request(SMALL, { push: [reference] }))
    const manifests = (await registry.requests()).filter(({ path }) => path.startsWith('/v2/once/manifests/'))
    expect(manifests.map(({ method, status }) => `${method} ${status}`)).toEqual(['HEAD 404', 'PUT 201'])
    expect(await new DockerEngine().image(reference)).toBeUndefined()
  })

  test('keeps the image in the engine when told', async () => {
    const reference = `${registry.host}/kept:1`
    const { digest } = await shop.build(await shop.request(SMALL, { push: [reference] }), { keep: true })
    expect(await new DockerEngine().image(reference)).toMatchObject({ id: digest })
    await removeImage(reference)
  })

  test('leaves nothing but stable state in the configuration directory', async () => {
    const request = await shop.request(SMALL, { push: [`${registry.host}/tidy:1`] })
    await shop.build(request)
    expect((await readdir(request.configDir)).sort()).toEqual([
      '.buildNodeID',
      '.lock',
      'activity',
      'current',
      'defaults',
      'instances',
    ])
  })

  test('takes target, args, contexts and a Dockerfile outside the context, and ignores what the caller’s environment would change', async () => {
    const dockerfile = `FROM ${BASE} AS a\nARG UNIQUE\nARG SAID\nCOPY --from=other note /note\nRUN cat /note; echo "said $SAID"; env | grep -c BAKE_ || true\nFROM a AS b\nRUN false\n`
    const other = await shop.request('', { files: { note: 'from the other context\n' } })
    const outside = await shop.request(dockerfile)
    const request = await shop.request('', {
      dockerfile: outside.dockerfile,
      target: 'a',
      args: { SAID: 'a=b,"c" $HOME' },
      contexts: { other: other.contextDir },
      push: [`${registry.host}/options:1`],
    })
    const env = {
      ...process.env,
      SOURCE_DATE_EPOCH: '1',
      BUILDX_BUILDER: 'no-such-builder',
      DOCKER_DEFAULT_PLATFORM: 'linux/s390x',
      BAKE_X: '1',
    }
    const { error, lines, digest } = await shop.build(request, { env })
    expect(error).toBeUndefined()
    expect(lines).toEqual(['from the other context', 'said a=b,"c" $HOME', '0'])
    const { body } = await manifest('options', digest!)
    const config = (await (await fetch(`http://${registry.host}/v2/options/blobs/${body.config.digest}`)).json()) as {
      architecture: string
      created: string
    }
    expect(config.architecture).toBe((await new DockerEngine().info()).architecture === 'aarch64' ? 'arm64' : 'amd64')
    expect(Date.parse(config.created)).toBeGreaterThan(Date.now() - 3_600_000)
  })

  test('builds a COPY-only image for several platforms', async () => {
    const platforms = ['linux/amd64', 'linux/arm64']
    const { digest, error } = await shop.build(await shop.request(SMALL, { platforms, push: [`${registry.host}/multi:1`] }))
    expect(error).toBeUndefined()
    const { body } = await manifest('multi', digest!)
    expect(body.manifests.map(({ platform }) => `${platform.os}/${platform.architecture}`)).toEqual(platforms)
  })

  test('writes its cache to the registry, and takes it from there', async () => {
    const cache = `${registry.host}/cache:web.main`
    const request = await shop.request(SMALL, { push: [`${registry.host}/cached:1`], cacheFrom: [cache], cacheTo: cache })
    const { error, events } = await shop.build(request)
    expect(error).toBeUndefined()
    expect(events.filter(({ type }) => type === 'warning')).toEqual([])
    const { body } = await manifest('cache', 'web.main')
    expect(body.config.mediaType).toBe('application/vnd.buildkit.cacheconfig.v0')
    await shop.build(request)
    expect(
      (await registry.requests()).some(
        ({ method, path, status }) => method === 'GET' && status === 200 && path.startsWith('/v2/cache/manifests'),
      ),
    ).toBe(true)
  })

  test('hands a secret over without a trace in arguments or image', async () => {
    const value = 's3cr3t-value-of-this-test'
    const file = join(shop.dir, 'with, comma')
    await writeFile(file, value, { mode: 0o600 })
    const request = await shop.request(
      `FROM ${BASE}\nARG UNIQUE\nRUN --mount=type=secret,id=token wc -c </run/secrets/token\nCOPY Dockerfile /\n`,
      { secrets: { token: file }, push: [`${registry.host}/secret:1`] },
    )
    const { error, lines, events, digest } = await shop.build(request)
    expect(error).toBeUndefined()
    expect(lines).toEqual([String(value.length)])
    expect(JSON.stringify(events)).not.toContain(value)
    const { body } = await manifest('secret', digest!)
    expect(await (await fetch(`http://${registry.host}/v2/secret/blobs/${body.config.digest}`)).text()).not.toContain(value)
  })
})

test('20 MB of log arrive complete and in order, though they are taken slowly, one event at a time', async () => {
  const count = 400_000
  const tail = 'x'.repeat(43)
  const dockerfile = `FROM ${BASE}\nARG UNIQUE\nRUN seq 1 ${count} | sed 's/$/ ${tail}/'\n`
  let next = 1
  let busy = false
  let overlaps = 0
  const { error, digest } = await shop.build(await shop.request(dockerfile, { push: [`${registry.host}/flood:1`] }), {
    onEvent: (event) => {
      if (busy) overlaps++
      if (event.type !== 'line' || event.text !== `${next} ${tail}`) return
      // Longer than BuildKit waits for its reader after the end of a build.
      if (next++ % 100_000 !== 0) return
      busy = true
      return sleep(1500).then(() => {
        busy = false
      })
    },
  })
  expect(error).toBeUndefined()
  expect(digest).toBeDefined()
  expect(next).toBe(count + 1)
  expect(overlaps).toBe(0)
})

test('the record of the running buildx is gone when it is', async () => {
  const request = await shop.request(SMALL, { push: [`${registry.host}/record:1`] })
  const seen: unknown[] = []
  await shop.build(request, {
    onEvent: async () => {
      if (seen.length === 0) seen.push(JSON.parse(await readFile(join(request.configDir, 'bake-child.json'), 'utf8')))
    },
  })
  expect(seen).toEqual([{ pid: expect.any(Number), start: expect.any(String) }])
  expect(existsSync(join(request.configDir, 'bake-child.json'))).toBe(false)
})
