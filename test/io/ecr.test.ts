import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { BuildxBuilder } from '../../src/io/buildx.ts'
import { writeDockerConfig } from '../../src/io/docker-login.ts'
import { ecrHosts, ecrRegistry } from '../../src/io/ecr-host.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { RegistryLogins } from '../../src/io/registry-logins.ts'
import { parseReference } from '../../src/reference.ts'
import { type EcrStandIn, startEcrStandIn } from '../support/ecr-registry.ts'
import { startRegistry } from '../support/registry.ts'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.useRealTimers()
})

/** The SDK reads this process's environment. */
async function standIn(): Promise<EcrStandIn> {
  const ecr = await startEcrStandIn()
  for (const [name, value] of Object.entries(ecr.env)) vi.stubEnv(name, value)
  return ecr
}

describe('hosts of ECR', () => {
  const at = (account: string, region: string, fips = false) => ({ account, region, fips })
  test.each([
    ['123456789012.dkr.ecr.us-east-1.amazonaws.com', at('123456789012', 'us-east-1')],
    ['123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn', at('123456789012', 'cn-north-1')],
    ['123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com', at('123456789012', 'us-gov-west-1', true)],
    ['123456789012.dkr-ecr.eu-west-1.on.aws', at('123456789012', 'eu-west-1')],
    ['12345678901.dkr.ecr.us-east-1.amazonaws.com', undefined],
    ['123456789012.dkr.ecr.us-east-1.amazonaws.com.example.org', undefined],
    ['public.ecr.aws', undefined],
    ['localhost:5000', undefined],
    ['000000000000.dkr.ecr.us-east-1.localhost.localstack.cloud:4566', undefined],
  ])('%s', (host, registry) => {
    expect(ecrRegistry(host, {})).toEqual(registry)
  })

  test('an emulator’s host counts only while an endpoint is set', () => {
    const host = '000000000000.dkr.ecr.us-east-1.localhost.localstack.cloud:4566'
    expect(ecrRegistry(host, { AWS_ENDPOINT_URL: 'http://localhost:4566' })).toEqual(at('000000000000', 'us-east-1'))
    expect(
      ecrRegistry('000000000000.dkr.ecr.us-east-1.evil.example', { AWS_ENDPOINT_URL: 'http://localhost:4566' }),
    ).toBeUndefined()
  })

  test('BAKE_ECR_REGISTRIES names others, and says what is wrong with it', () => {
    const env = { BAKE_ECR_REGISTRIES: '127.0.0.1:5000=123456789012@us-east-1, proxy.corp=210987654321@eu-west-1' }
    expect(ecrRegistry('proxy.corp', env)).toEqual(at('210987654321', 'eu-west-1'))
    expect(ecrRegistry('127.0.0.1:5000', env)).toEqual(at('123456789012', 'us-east-1'))
    expect(() => new RegistryLogins({ BAKE_ECR_REGISTRIES: 'proxy.corp' })).toThrow(
      expect.objectContaining({ code: 'bad_setting', exit: 2 }),
    )
  })

  test('are found in references and Dockerfiles', () => {
    const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com'
    const texts = [
      `FROM ${host}/base@sha256:00 AS a\nCOPY --from=docker.io/x /a /b\n`,
      'localhost:5000/shop/web:tag',
      `docker-image://${host}/y`,
    ]
    expect(ecrHosts(texts, {})).toEqual([host])
  })
})

describe('a registry client', () => {
  const missing = (host: string) => parseReference(`${host}/shop/web:none`)

  test('shows a token, asks once for many requests, and again for nobody else', async () => {
    await using ecr = await standIn()
    await using other = await startRegistry()
    const registry = new HttpRegistry()
    await Promise.all([1, 2, 3].map(() => registry.head(missing(ecr.host))))
    expect(await registry.head(missing(ecr.host))).toBeUndefined()
    expect(await registry.head(missing(other.host))).toBeUndefined()
    expect(ecr.calls).toEqual(['GetAuthorizationToken'])
  })

  test('has a new one when the old is refused, one for all who met that', async () => {
    await using ecr = await standIn()
    const registry = new HttpRegistry()
    await registry.head(missing(ecr.host))
    ecr.expire()
    const answers = await Promise.all([1, 2, 3, 4].map(() => registry.head(missing(ecr.host))))
    expect(answers).toEqual([undefined, undefined, undefined, undefined])
    expect(ecr.issued).toBe(2)
  })

  test('renews it before it ends', async () => {
    await using ecr = await standIn()
    const registry = new HttpRegistry()
    vi.useFakeTimers({ toFake: ['Date'] })
    await registry.head(missing(ecr.host))
    vi.setSystemTime(Date.now() + 5.9 * 3600_000)
    await registry.head(missing(ecr.host))
    expect(ecr.issued).toBe(1)
    vi.setSystemTime(Date.now() + 0.2 * 3600_000)
    await registry.head(missing(ecr.host))
    expect(ecr.issued).toBe(2)
  })

  test('that may not do a thing is told so, without asking AWS for ever', async () => {
    await using ecr = await standIn()
    ecr.watch = () => 403
    const registry = new HttpRegistry()
    for (const _ of [1, 2, 3])
      await expect(registry.manifest(missing(ecr.host))).rejects.toMatchObject({ code: 'registry_denied', exit: 4 })
    expect(ecr.issued).toBe(2)
  })

  test('without AWS credentials uses a docker login, and tells what to do without one', async () => {
    await using ecr = await standIn()
    const dir = await mkdtemp(join(tmpdir(), 'bake-docker-'))
    try {
      const token = await new RegistryLogins().credentials(ecr.host)
      const auth = Buffer.from(`${token!.username}:${token!.password}`).toString('base64')
      for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) vi.stubEnv(name, undefined)
      // Not a loopback endpoint: those need no credentials.
      vi.stubEnv('AWS_ENDPOINT_URL_ECR', 'http://ecr.invalid')
      vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
      vi.stubEnv('AWS_CONFIG_FILE', join(dir, 'none'))
      vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(dir, 'none'))
      vi.stubEnv('DOCKER_CONFIG', dir)
      await expect(new HttpRegistry().head(missing(ecr.host))).rejects.toMatchObject({
        code: 'registry_denied',
        next: expect.stringContaining('AWS credentials'),
      })
      await writeFile(join(dir, 'config.json'), JSON.stringify({ auths: { [ecr.host]: { auth } } }))
      expect(await new HttpRegistry().head(missing(ecr.host))).toBeUndefined()
    } finally {
      await rm(dir, { recursive: true })
    }
  })
})

describe('a docker configuration for one build', () => {
  test('has the login, and the user’s own for everything else', async () => {
    const own = await mkdtemp(join(tmpdir(), 'bake-docker-'))
    try {
      await mkdir(join(own, 'contexts'))
      await writeFile(
        join(own, 'config.json'),
        JSON.stringify({
          auths: { 'other.example': { auth: 'eDp5' }, 'ecr.example': { auth: 'b2xk' } },
          credsStore: 'desktop',
          credHelpers: { 'gcr.io': 'gcloud' },
          currentContext: 'lab',
        }),
      )
      const login = { host: 'ecr.example', username: 'AWS', password: 'new' }
      let dir: string
      {
        await using made = await writeDockerConfig([login], { DOCKER_CONFIG: own })
        dir = made.dir
        expect((await stat(dir)).mode & 0o777).toBe(0o700)
        expect((await stat(join(dir, 'config.json'))).mode & 0o777).toBe(0o600)
        expect(await readdir(dir)).toEqual(['config.json', 'contexts'])
        expect(JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))).toEqual({
          auths: { 'other.example': { auth: 'eDp5' }, 'ecr.example': { auth: btoa('AWS:new') } },
          credsStore: 'desktop',
          credHelpers: { 'gcr.io': 'gcloud', 'ecr.example': '' },
          currentContext: 'lab',
        })
      }
      await expect(stat(dir)).rejects.toMatchObject({ code: 'ENOENT' })
    } finally {
      await rm(own, { recursive: true })
    }
  })
})

test('a Dockerfile that names an ECR host in passing needs no AWS credentials, an image that goes there does', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-ecr-'))
  try {
    vi.stubEnv('AWS_ENDPOINT_URL_ECR', 'http://127.0.0.1:9')
    vi.stubEnv('DOCKER_CONFIG', dir)
    const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com'
    const dockerfile = join(dir, 'Dockerfile')
    await writeFile(dockerfile, `FROM scratch\nENV BASE=${host}/base\n`)
    const build = { dockerfile, cacheFrom: [], contexts: {} }
    await using login = await new RegistryLogins().forBuild({ ...build, push: ['localhost:5000/x:y'] })
    expect(JSON.parse(await readFile(join(login!.configDir, 'config.json'), 'utf8'))).toMatchObject({ auths: {} })
    const pushing = new RegistryLogins().forBuild({ ...build, push: [`${host}/x:y`] })
    await expect(pushing).rejects.toMatchObject({ code: 'registry_unreachable', kind: 'world' })
  } finally {
    await rm(dir, { recursive: true })
  }
}, 60_000)

describe('a build', () => {
  const request = (dir: string, push: string[]) => ({
    contextDir: join(dir, 'context'),
    dockerfile: join(dir, 'Dockerfile'),
    push,
    platforms: [],
    args: {},
    secrets: {},
    ssh: [],
    contexts: {},
    attest: false,
    cacheFrom: [],
    configDir: join(dir, 'buildx'),
  })

  test('pushes to ECR with a token and elsewhere with the user’s login, and leaves neither behind', async () => {
    await using ecr = await standIn()
    await using guarded = await startRegistry({ auth: true })
    const dir = await mkdtemp(join(tmpdir(), 'bake-ecr-'))
    try {
      const auth = btoa('bake:s3cret')
      await mkdir(join(dir, '.docker'))
      await writeFile(join(dir, '.docker/config.json'), JSON.stringify({ auths: { [guarded.host]: { auth } } }))
      vi.stubEnv('DOCKER_CONFIG', join(dir, '.docker'))
      await mkdir(join(dir, 'context'))
      await writeFile(join(dir, 'context/file'), String(Math.random()))
      await writeFile(join(dir, 'Dockerfile'), 'FROM scratch\nCOPY file /\n')
      const builder = new BuildxBuilder({ containerdStore: true, keep: false, logins: new RegistryLogins() })
      const options = { signal: new AbortController().signal, onEvent: () => {} }
      const push = [`${ecr.host}/shop/web:one`, `${guarded.host}/shop/web:one`]
      const { digest } = await builder.build(request(dir, push), options)
      expect((await new HttpRegistry().head(parseReference(push[0]!)))?.digest).toBe(digest)
      expect((await new HttpRegistry().head(parseReference(push[1]!)))?.digest).toBe(digest)
      const left = (await readdir('/dev/shm')).filter((name) => name.startsWith(`bake-secrets-${process.pid}-`))
      expect(left).toEqual([])
    } finally {
      await rm(dir, { recursive: true })
    }
  }, 60_000)

  test('whose token ends in the middle of its push fails as the world’s, and the next one has a new token', async () => {
    await using ecr = await standIn()
    const dir = await mkdtemp(join(tmpdir(), 'bake-ecr-'))
    try {
      await mkdir(join(dir, 'context'))
      await writeFile(join(dir, 'context/file'), String(Math.random()))
      await writeFile(join(dir, 'Dockerfile'), 'FROM scratch\nCOPY file /\n')
      const builder = new BuildxBuilder({ containerdStore: true, keep: false, logins: new RegistryLogins() })
      const options = { signal: new AbortController().signal, onEvent: () => {} }
      // A store for all hosts that isn't there: buildx must not ask it for this one.
      await mkdir(join(dir, '.docker'))
      await writeFile(join(dir, '.docker/config.json'), '{"credsStore":"nowhere"}')
      vi.stubEnv('DOCKER_CONFIG', join(dir, '.docker'))
      const push = [`${ecr.host}/shop/web:two`]
      ecr.watch = ({ method }) => void (method === 'PUT' && ecr.issued === 1 && ecr.expire())
      await expect(builder.build(request(dir, push), options)).rejects.toMatchObject({ code: 'registry_denied', kind: 'world' })
      await builder.build(request(dir, push), options)
      expect(ecr.issued).toBe(2)
    } finally {
      await rm(dir, { recursive: true })
    }
  }, 60_000)
})
