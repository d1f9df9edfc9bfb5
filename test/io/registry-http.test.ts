import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dockerCredentials } from '../../src/io/registry-credentials.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { sha256 } from '../../src/names.ts'
import { parseReference } from '../../src/reference.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushImage } from '../support/registry-push.ts'

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

describe('against docker-registry', () => {
  let registry: TestRegistry
  let digest: string
  const client = new HttpRegistry({ credentials: async () => undefined })
  beforeAll(async () => {
    registry = await startRegistry()
    digest = await pushImage(registry.host, 'team/base', '1')
  })
  afterAll(() => registry[Symbol.asyncDispose]())
  const at = (text: string) => parseReference(`${registry.host}/${text}`)

  test('head is one HEAD and tells the digest', async () => {
    await registry.clearRequests()
    expect(await client.head(at('team/base:1'))).toMatchObject({ digest, mediaType: MANIFEST })
    expect(await registry.requests()).toEqual([{ method: 'HEAD', path: '/v2/team/base/manifests/1', status: 200 }])
  })

  test('head by digest, of an unknown tag and of an unknown repository', async () => {
    expect(await client.head(at(`team/base@${digest}`))).toMatchObject({ digest })
    expect(await client.head(at('team/base:2'))).toBeUndefined()
    expect(await client.head(at('nobody/knows:1'))).toBeUndefined()
    expect(await client.manifest(at('nobody/knows:1'))).toBeUndefined()
  })

  test('manifest and blob are the bytes that their digests name', async () => {
    const manifest = (await client.manifest(at('team/base:1')))!
    expect(`sha256:${sha256(manifest.bytes)}`).toBe(digest)
    const { config } = JSON.parse(Buffer.from(manifest.bytes).toString())
    expect(JSON.parse(Buffer.from(await client.blob(at('team/base:1'), config.digest)).toString())).toMatchObject({ os: 'linux' })
  })

  test('tag names the same manifest anew without moving a layer', async () => {
    const manifest = (await client.manifest(at('team/base:1')))!
    await registry.clearRequests()
    await client.tag(at('team/base:1'), 'sha-1', manifest)
    expect(await registry.requests()).toEqual([{ method: 'PUT', path: '/v2/team/base/manifests/sha-1', status: 201 }])
    expect(await client.head(at('team/base:sha-1'))).toMatchObject({ digest })
  })

  test('nobody listening is registry_unreachable, with host and next step', async () => {
    await using gone = await startRegistry()
    await gone.stop()
    await expect(client.head(parseReference(`${gone.host}/a:1`))).rejects.toMatchObject({
      code: 'registry_unreachable',
      exit: 4,
      ids: { host: gone.host },
      next: expect.stringContaining(gone.host),
    })
  })
})

test('credentials that were refused are read anew: a login mends a client that runs', async () => {
  await using registry = await startRegistry({ auth: true })
  let password = 'old'
  const client = new HttpRegistry({ credentials: async () => ({ username: 'bake', password }), retries: 0 })
  const reference = { host: registry.host, path: 'a', tag: '1' }
  await expect(client.head(reference)).rejects.toMatchObject({ code: 'registry_denied' })
  password = 's3cret'
  expect(await client.head(reference)).toBeUndefined()
})

test('Basic authentication: right, wrong and no credentials', async () => {
  await using registry = await startRegistry({ auth: true })
  const authorization = `Basic ${btoa('bake:s3cret')}`
  const digest = await pushImage(registry.host, 'a', '1', { authorization })
  const reference = parseReference(`${registry.host}/a:1`)
  const known = new HttpRegistry({ credentials: async () => ({ username: 'bake', password: 's3cret' }) })
  expect(await known.head(reference)).toMatchObject({ digest })
  await registry.clearRequests()
  await known.head(reference)
  expect(await registry.requests()).toHaveLength(1)
  const wrong = new HttpRegistry({ credentials: async () => ({ username: 'bake', password: 'no' }) })
  await expect(wrong.head(reference)).rejects.toMatchObject({
    code: 'registry_denied',
    exit: 4,
    next: expect.stringContaining('docker login'),
  })
  const nobody = new HttpRegistry({ credentials: async () => undefined })
  await expect(nobody.manifest(reference)).rejects.toMatchObject({ code: 'registry_denied' })
})

/** A registry that misbehaves as told, for answers that docker-registry can't be made to give. */
async function misbehaving(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const seen: { url: string; method: string; authorization: string | undefined }[] = []
  const server = createServer((request, response) => {
    seen.push({ url: request.url!, method: request.method!, authorization: request.headers.authorization })
    answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
const BODY = Buffer.from('{"schemaVersion":2}')
const BODY_DIGEST = `sha256:${sha256(BODY)}`
const ok = (response: ServerResponse, headers = {}) =>
  response.writeHead(200, {
    'content-type': MANIFEST,
    'content-length': BODY.length,
    'docker-content-digest': BODY_DIGEST,
    ...headers,
  })

describe('against a registry that misbehaves', () => {
  const anonymous = new HttpRegistry({ credentials: async () => undefined })

  test('a token is asked for once per scope, with realm, service and scope, and used again', async () => {
    await using server = await misbehaving((request, response) => {
      const url = new URL(request.url!, 'http://x')
      if (url.pathname === '/token') return response.end(JSON.stringify({ token: 'T1', expires_in: 300 }))
      if (request.headers.authorization === 'Bearer T1') return ok(response).end()
      const realm = `Bearer realm="http://${request.headers.host}/token",service="reg",scope="repository:a:pull"`
      response.writeHead(401, { 'www-authenticate': realm }).end()
    })
    const client = new HttpRegistry({ credentials: async () => ({ username: 'u', password: 'p' }) })
    const reference = parseReference(`${server.host}/a:1`)
    await client.head(reference)
    await client.head(reference)
    expect(server.seen).toEqual([
      { method: 'HEAD', url: '/v2/a/manifests/1', authorization: undefined },
      { method: 'GET', url: '/token?service=reg&scope=repository%3Aa%3Apull', authorization: `Basic ${btoa('u:p')}` },
      { method: 'HEAD', url: '/v2/a/manifests/1', authorization: 'Bearer T1' },
      { method: 'HEAD', url: '/v2/a/manifests/1', authorization: 'Bearer T1' },
    ])
  })

  test('a token that is refused again and again is registry_denied, not an endless loop', async () => {
    await using server = await misbehaving((request, response) => {
      if (request.url!.startsWith('/token')) return response.end(JSON.stringify({ token: 'T' }))
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` }).end()
    })
    await expect(anonymous.head(parseReference(`${server.host}/a:1`))).rejects.toMatchObject({ code: 'registry_denied' })
    expect(server.seen.length).toBeLessThan(6)
  })

  test('a redirect to another host gets no authorization, its bytes are checked', async () => {
    await using store = await misbehaving((_, response) => response.end(BODY))
    await using server = await misbehaving((request, response) => {
      if (!request.headers.authorization) return response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      response.writeHead(307, { location: `http://${store.host}/bytes?signature=1` }).end()
    })
    const client = new HttpRegistry({ credentials: async () => ({ username: 'u', password: 'p' }) })
    const bytes = await client.blob(parseReference(`${server.host}/a:1`), BODY_DIGEST)
    expect(Buffer.from(bytes)).toEqual(BODY)
    expect(store.seen).toEqual([{ method: 'GET', url: '/bytes?signature=1', authorization: undefined }])
  })

  test('bytes that are not what the digest names are registry_error', async () => {
    await using server = await misbehaving((_, response) => ok(response).end('{"schemaVersion":3}'))
    const reference = parseReference(`${server.host}/a@${BODY_DIGEST}`)
    await expect(anonymous.manifest(reference)).rejects.toMatchObject({ code: 'registry_error' })
    await expect(anonymous.blob(reference, BODY_DIGEST)).rejects.toMatchObject({ code: 'registry_error' })
  })

  test('a HEAD without a digest is asked again as GET', async () => {
    await using server = await misbehaving((request, response) => {
      response.writeHead(200, { 'content-type': MANIFEST, 'content-length': BODY.length })
      response.end(request.method === 'HEAD' ? undefined : BODY)
    })
    expect(await anonymous.head(parseReference(`${server.host}/a:1`))).toMatchObject({ digest: BODY_DIGEST, mediaType: MANIFEST })
    expect(server.seen.map(({ method }) => method)).toEqual(['HEAD', 'GET'])
  })

  test.each([
    ['507', 507, ''],
    ['a 500 that tells of ENOSPC', 500, '{"errors":[{"code":"UNKNOWN","detail":"write /x: no space left on device"}]}'],
    ['a 500 with its errno', 500, '{"errors":[{"code":"UNKNOWN","detail":{"Op":"write","Path":"/x","Err":28}}]}'],
  ])('%s is registry_full, at once', async (_, status, body) => {
    await using server = await misbehaving((_, response) => response.writeHead(status).end(body))
    const put = anonymous.tag(parseReference(`${server.host}/a:1`), 't', {
      digest: BODY_DIGEST,
      mediaType: MANIFEST,
      size: BODY.length,
      bytes: BODY,
    })
    await expect(put).rejects.toMatchObject({ code: 'registry_full', exit: 4 })
    expect(server.seen).toHaveLength(1)
  })

  test('429 with Retry-After and a reset connection are tried again', async () => {
    let n = 0
    await using server = await misbehaving((request, response) => {
      n++
      if (n === 1) return response.writeHead(429, { 'retry-after': '0' }).end()
      if (n === 2) return request.socket.resetAndDestroy()
      ok(response).end()
    })
    expect(await anonymous.head(parseReference(`${server.host}/a:1`))).toMatchObject({ digest: BODY_DIGEST })
    expect(server.seen).toHaveLength(3)
  })

  test('5xx to the end is registry_error, with what the registry said', async () => {
    await using server = await misbehaving((_, response) =>
      response.writeHead(503).end('{"errors":[{"code":"UNAVAILABLE","message":"maintenance"}]}'),
    )
    const reference = parseReference(`${server.host}/a:1`)
    await expect(anonymous.manifest(reference)).rejects.toMatchObject({
      code: 'registry_error',
      message: expect.stringContaining('maintenance'),
    })
    expect(server.seen).toHaveLength(3)
  })

  test('no answer in time is registry_unreachable; an abort is the signal’s own reason', async () => {
    await using server = await misbehaving(() => {})
    const reference = parseReference(`${server.host}/a:1`)
    await expect(anonymous.head(reference, { timeoutMs: 150 })).rejects.toMatchObject({ code: 'registry_unreachable' })
    const reason = new Error('stop')
    const signal = abortIn(100, reason)
    await expect(anonymous.head(reference, { signal })).rejects.toBe(reason)
  })

  test('a manifest larger than 4 MiB is not read to its end', async () => {
    await using server = await misbehaving((_, response) => {
      response.writeHead(200, { 'content-type': MANIFEST })
      response.end(Buffer.alloc(5 * 1024 * 1024))
    })
    await expect(anonymous.manifest(parseReference(`${server.host}/a:1`))).rejects.toMatchObject({ code: 'registry_error' })
  })
})

function abortIn(ms: number, reason: unknown): AbortSignal {
  const controller = new AbortController()
  setTimeout(() => controller.abort(reason), ms)
  return controller.signal
}

describe('dockerCredentials', () => {
  const withConfig = async (config: object, run: (env: NodeJS.ProcessEnv, dir: string) => Promise<void>) => {
    const dir = await mkdtemp(join(tmpdir(), 'bake-docker-'))
    try {
      await writeFile(join(dir, 'config.json'), JSON.stringify(config))
      await run({ DOCKER_CONFIG: dir }, dir)
    } finally {
      await rm(dir, { recursive: true })
    }
  }

  test('auths, by host, by URL and for Docker Hub', async () => {
    const entry = (text: string) => ({ auth: btoa(text) })
    await withConfig(
      { auths: { 'a.test': entry('u:p:q'), 'https://b.test/v1/': entry('b:b'), 'https://index.docker.io/v1/': entry('h:h') } },
      async (env) => {
        expect(await dockerCredentials('a.test', env)).toEqual({ username: 'u', password: 'p:q' })
        expect(await dockerCredentials('b.test', env)).toEqual({ username: 'b', password: 'b' })
        expect(await dockerCredentials('docker.io', env)).toEqual({ username: 'h', password: 'h' })
        expect(await dockerCredentials('c.test', env)).toBeUndefined()
      },
    )
  })

  test('a credential helper gets the host on stdin; one that is missing is no credentials', async () => {
    await withConfig({ credHelpers: { 'a.test': 'baketest', 'b.test': 'bakemissing' } }, async (env, dir) => {
      const helper = join(dir, 'docker-credential-baketest')
      await writeFile(
        helper,
        '#!/bin/sh\nread host\n[ "$1" = get ] && echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"for $host\\"}"\n',
      )
      await chmod(helper, 0o755)
      const path = process.env.PATH
      process.env.PATH = `${dir}:${path}`
      try {
        expect(await dockerCredentials('a.test', env)).toEqual({ username: 'u', password: 'for a.test' })
        expect(await dockerCredentials('b.test', env)).toBeUndefined()
      } finally {
        process.env.PATH = path
      }
    })
  })

  test('no configuration is no credentials', async () => {
    expect(await dockerCredentials('a.test', { DOCKER_CONFIG: '/nonexistent' })).toBeUndefined()
  })
})
