import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'

const SCRIPT = fileURLToPath(new URL('../golden/ami/usr/local/lib/bake/env-from', import.meta.url))
/** The machine's key is root's. */
const hasCreds = process.getuid?.() === 0 && spawnSync('systemd-creds', ['--version']).status === 0
const BELOW = '/shop/web'
/** More than one page of GetParametersByPath (10). */
const MANY = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`MANY_${n}`, `value ${n}`]))

let moto: Moto
let root: string
let dir: string
beforeAll(async () => {
  moto = await startMoto()
  root = await mkdtemp(join(tmpdir(), 'bake-env-from-'))
  const ssm = new SSMClient(clientOf())
  for (const [name, value] of Object.entries({
    ...MANY,
    DATABASE_URL: 'postgres://u:p@db/shop?x="1 2"',
    'not-a-name': 'x',
    'deeper/X': '1',
  }))
    await ssm.send(new PutParameterCommand({ Name: `${BELOW}/${name}`, Value: value, Type: 'SecureString' }))
  await ssm.send(new PutParameterCommand({ Name: '/lines/TEXT', Value: 'one\ntwo', Type: 'String' }))
  ssm.destroy()
  await asJson('secretsmanager.CreateSecret', {
    Name: 'shop/web',
    SecretString: JSON.stringify({ TOKEN: 'grüße', PORT: 80 }),
    ClientRequestToken: 'a'.repeat(32),
  })
  await asJson('secretsmanager.CreateSecret', { Name: 'plain', SecretString: 'just text', ClientRequestToken: 'b'.repeat(32) })
})
afterAll(async () => {
  await rm(root, { recursive: true, force: true })
  await moto?.[Symbol.asyncDispose]()
})
beforeEach(async () => {
  dir = await mkdtemp(join(root, 'machine-'))
  await mkdir(join(dir, 'run'))
})

const clientOf = () => ({
  region: MOTO_REGION,
  endpoint: moto.endpoint,
  credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
})
/** Its client isn't among our dependencies. */
async function asJson(target: string, body: object) {
  const answer = await fetch(moto.endpoint, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': target,
      authorization: `AWS4-HMAC-SHA256 Credential=test/20260101/${MOTO_REGION}/secretsmanager/aws4_request, SignedHeaders=host, Signature=0`,
    },
    body: JSON.stringify(body),
  })
  expect(answer.status, await answer.text()).toBe(200)
}

/** Runs what a unit runs before its container; the machine's key is the test's own. */
async function start(sources: string[], env: Record<string, string> = {}) {
  const child = spawn('python3', [SCRIPT, 'web', ...sources], {
    env: {
      PATH: process.env.PATH,
      BAKE_RUN: join(dir, 'run'),
      BAKE_KEPT: join(dir, 'kept'),
      SYSTEMD_CREDENTIAL_SECRET: join(dir, 'credential.secret'),
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
      AWS_REGION: MOTO_REGION,
      AWS_ENDPOINT_URL_SSM: moto.endpoint,
      AWS_ENDPOINT_URL_SECRETS_MANAGER: moto.endpoint,
      ...env,
    },
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = await once(child, 'close')
  const file = join(dir, 'run/web.from')
  return { code, stderr, lines: existsSync(file) ? (await readFile(file, 'utf8')).trimEnd().split('\n') : undefined }
}
const why = () => readFile(join(dir, 'run/web.why'), 'utf8')
/** Nobody listens there. */
const GONE = { AWS_ENDPOINT_URL_SSM: 'http://127.0.0.1:9' }

test('parameters right below the path, of every page, and a secret, the later one over the former', async () => {
  const { code, stderr, lines } = await start([`ssm:${BELOW}`, 'secret:shop/web'])
  expect(code, stderr).toBe(0)
  expect(lines?.sort()).toEqual(
    [
      ...Object.entries(MANY).map(([name, value]) => `${name}=${value}`),
      'DATABASE_URL=postgres://u:p@db/shop?x="1 2"',
      'TOKEN=grüße',
      'PORT=80',
    ].sort(),
  )
  expect(stderr).toContain('not-a-name is no variable: left out')
  expect((await stat(join(dir, 'run/web.from'))).mode & 0o777).toBe(0o600)
})

describe('when AWS can’t be asked', () => {
  test.skipIf(!hasCreds)('the last values that were read count; on the disk they are sealed', async () => {
    const first = await start([`ssm:${BELOW}`])
    expect(first.code, first.stderr).toBe(0)
    expect(await readdir(join(dir, 'kept'))).toEqual(['web.cred'])
    expect(await readFile(join(dir, 'kept/web.cred'), 'utf8')).not.toMatch(/postgres|value/)
    await rm(join(dir, 'run/web.from'))
    const second = await start([`ssm:${BELOW}`], GONE)
    expect(second).toMatchObject({
      code: 0,
      lines: first.lines,
      stderr: expect.stringMatching(/Connection refused.*values of \d+ s ago/),
    })

    // Another machine's key opens nothing.
    await rm(join(dir, 'credential.secret'))
    await rm(join(dir, 'run/web.from'))
    expect(await start([`ssm:${BELOW}`], GONE)).toMatchObject({ code: 1, lines: undefined })
  })

  test('and never could be, the service doesn’t start and says why', async () => {
    expect(await start([`ssm:${BELOW}`], GONE)).toMatchObject({ code: 1, lines: undefined })
    expect(await why()).toMatch(
      /^env_from: GetParametersByPath: .*Connection refused.*; and there is no copy of an earlier start\n$/,
    )
  })

  test.each<[string, RequestListener, RegExp, number]>([
    [
      'no permission',
      (_, response) => refuse(response, 400, 'AccessDeniedException'),
      /GetParametersByPath: AccessDeniedException: no/,
      1,
    ],
    ['throttled', (_, response) => refuse(response, 400, 'ThrottlingException'), /ThrottlingException/, 3],
    ['broken', (_, response) => refuse(response, 500, 'InternalServerError'), /InternalServerError/, 3],
    ['garbage', (_, response) => response.end('<html>'), /GetParametersByPath: /, 3],
    ['an answer of another shape', (_, response) => response.end('{}'), /AWS answers without 'Parameters'/, 1],
    ['silence', () => {}, /timed out|no answer within/, 1],
  ])('%s', { timeout: 30_000 }, async (_, listener, said, asked) => {
    let requests = 0
    const server = createServer((request, response) => {
      requests++
      listener(request, response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { code, stderr } = await start([`ssm:${BELOW}`], {
      AWS_ENDPOINT_URL_SSM: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    })
    server.closeAllConnections()
    server.close()
    expect({ code, requests }).toEqual({ code: 1, requests: asked })
    expect(stderr).toMatch(said)
  })
})

test('what can be no variable of docker’s is refused, and so is a secret of another shape or an empty path', async () => {
  expect(await start(['ssm:/lines'])).toMatchObject({ code: 1, stderr: expect.stringMatching(/TEXT has several lines/) })
  expect(await start(['secret:plain'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/secret plain is no JSON object of texts/),
  })
  expect(await start(['ssm:/nothing'])).toMatchObject({ code: 1, stderr: expect.stringMatching(/no parameter below \/nothing/) })
  expect(await start(['secret:nothing'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/GetSecretValue: ResourceNotFoundException/),
  })
})

test('nothing is asked while the machine is proven', async () => {
  expect(await start([`ssm:${BELOW}`], { ...GONE, BAKE_ENV_FROM: 'stands-in' })).toEqual({ code: 0, stderr: '', lines: [''] })
})

const refuse = (response: import('node:http').ServerResponse, status: number, type: string) =>
  response.writeHead(status).end(JSON.stringify({ __type: `com.amazonaws#${type}`, message: 'no' }))
