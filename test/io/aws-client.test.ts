import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { awsOptions } from '../../src/io/aws-client.ts'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'

const REGION = 'eu-central-1'
let dir: string
let saved: NodeJS.ProcessEnv
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-aws-'))
})
afterAll(() => rm(dir, { recursive: true }))
beforeEach(() => {
  saved = { ...process.env }
  for (const name of Object.keys(process.env)) if (/^AWS_|_proxy$/i.test(name)) delete process.env[name]
  // A user's own files are no part of these tests.
  process.env.AWS_CONFIG_FILE = join(dir, 'none')
  process.env.AWS_SHARED_CREDENTIALS_FILE = join(dir, 'none')
  process.env.AWS_EC2_METADATA_DISABLED = 'true'
})
afterEach(() => {
  process.env = saved
})

/** Answers every request as an S3 that is empty, and remembers what was asked. */
async function startListener(answer: (request: IncomingMessage, response: ServerResponse) => void = nothingThere) {
  const seen: { url: string; host: string; authorization: string }[] = []
  const tunnels: string[] = []
  const server = createServer((request, response) => {
    const { host = '', authorization = '' } = request.headers
    seen.push({ url: request.url ?? '', host, authorization })
    answer(request, response)
  })
  server.on('connect', (request, socket) => {
    tunnels.push(request.url ?? '')
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    seen,
    tunnels,
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

const nothingThere = (_: IncomingMessage, response: ServerResponse) =>
  response.writeHead(404, { 'content-type': 'application/xml' }).end('<Error><Code>NoSuchKey</Code></Error>')

const settings = async (text: string): Promise<void> => {
  const path = join(dir, `config-${crypto.randomUUID()}`)
  await writeFile(path, text)
  process.env.AWS_CONFIG_FILE = path
}

describe('where the SDK goes', () => {
  it('AWS, with the standard chain, when nothing says otherwise', async () => {
    const options = await awsOptions({ service: 'S3', region: REGION })
    expect(options).toMatchObject({ region: REGION })
    expect(options).not.toHaveProperty('endpoint')
    expect(options).not.toHaveProperty('credentials')
  })

  it('AWS_ENDPOINT_URL, or the one of the service, with bucket names in the path', async () => {
    await using everything = await startListener()
    await using s3 = await startListener()
    process.env.AWS_ENDPOINT_URL = everything.url
    const get = () => new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')
    expect(await get()).toBeUndefined()
    expect(everything.seen).toMatchObject([{ url: expect.stringMatching(/^\/some-bucket\/a\?/) }])
    process.env.AWS_ENDPOINT_URL_S3 = s3.url
    expect(await get()).toBeUndefined()
    expect(everything.seen.length).toBe(1)
    expect(s3.seen[0]?.authorization).toContain(`/${REGION}/s3/`)
  })

  it("the profile's endpoint, for all services or one", async () => {
    await using everything = await startListener()
    await using s3 = await startListener()
    await settings(`[profile fleet]
aws_access_key_id = FROMPROFILE
aws_secret_access_key = x
endpoint_url = ${everything.url}
services = local

[services local]
s3 =
  endpoint_url = ${s3.url}
`)
    process.env.AWS_PROFILE = 'fleet'
    expect(await new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')).toBeUndefined()
    expect(s3.seen[0]?.authorization).toContain('Credential=FROMPROFILE/')
    expect((await awsOptions({ service: 'SQS', region: REGION })).endpoint).toBe(everything.url)
    process.env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS = 'true'
    expect(await awsOptions({ service: 'SQS', region: REGION })).not.toHaveProperty('endpoint')
  })
})

describe('credentials', () => {
  it('are not needed for an emulator on loopback, and are sent when there are some', async () => {
    await using s3 = await startListener()
    process.env.AWS_ENDPOINT_URL = s3.url
    await new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')
    expect(s3.seen.at(-1)?.authorization).toContain('Credential=local/')
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'MINE', AWS_SECRET_ACCESS_KEY: 'x' })
    await new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')
    expect(s3.seen.at(-1)?.authorization).toContain('Credential=MINE/')
  })

  it('of AWS are nothing to this machine’s own queue, which needs none: ones that do not work must not keep it from answering', async () => {
    await using s3 = await startListener()
    Object.assign(process.env, { AWS_WEB_IDENTITY_TOKEN_FILE: '/nonexistent', AWS_PROFILE: 'none' })
    await new S3Ledger({ region: REGION, bucket: 'some-bucket', endpoint: s3.url }).get('a')
    expect(s3.seen.at(-1)?.authorization).toContain('Credential=local/')
  })

  it('that are missing for AWS are told so, with what to do', async () => {
    const missing = { exit: 4, kind: 'world', next: expect.stringContaining('credentials') }
    await expect(new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')).rejects.toMatchObject({
      ...missing,
      code: 'ledger_denied',
    })
    const queue = await SqsQueue.open({ region: REGION, prefix: 'q' })
    await expect(queue.send('normal', '{}')).rejects.toMatchObject({ ...missing, code: 'queue_denied' })
    queue.close()
  })
})

describe('proxies', () => {
  beforeEach(() => {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x', AWS_MAX_ATTEMPTS: '1' })
  })

  it('HTTPS_PROXY is asked for a tunnel to AWS; one that refuses is an error with a next step', async () => {
    await using proxy = await startListener()
    process.env.HTTPS_PROXY = proxy.url
    await expect(new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')).rejects.toMatchObject({
      code: 'ledger_unreachable',
      next: expect.stringContaining('HTTPS_PROXY'),
    })
    expect(proxy.tunnels).toEqual([`some-bucket.s3.${REGION}.amazonaws.com:443`])
  })

  it('HTTP_PROXY carries what goes to an emulator elsewhere, unless NO_PROXY names it', async () => {
    await using s3 = await startListener()
    await using proxy = await startListener(({ url = '', headers }, response) => {
      send(`${s3.url}${new URL(url).pathname}`, { headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      }).end()
    })
    Object.assign(process.env, { AWS_ENDPOINT_URL: 'http://emulator.invalid:5000', HTTP_PROXY: proxy.url })
    const get = () => new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')
    expect(await get()).toBeUndefined()
    expect(proxy.seen).toMatchObject([{ url: expect.stringMatching(/^http:\/\/emulator\.invalid:5000\/some-bucket\/a/) }])
    process.env.NO_PROXY = 'emulator.invalid'
    await expect(get()).rejects.toMatchObject({ code: 'ledger_unreachable' })
    expect(proxy.seen.length).toBe(1)
  })

  it('never carry what goes to loopback', async () => {
    await using s3 = await startListener()
    await using proxy = await startListener()
    Object.assign(process.env, {
      AWS_ENDPOINT_URL: s3.url,
      HTTP_PROXY: proxy.url,
      http_proxy: proxy.url,
      no_proxy: 'example.com',
    })
    expect(await new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')).toBeUndefined()
    expect([s3.seen.length, proxy.seen.length]).toEqual([1, 0])
  })
})

describe('retries', () => {
  const triesOf = async () => {
    await using s3 = await startListener((_, response) => response.writeHead(500).end())
    process.env.AWS_ENDPOINT_URL = s3.url
    await expect(new S3Ledger({ region: REGION, bucket: 'some-bucket' }).get('a')).rejects.toMatchObject({
      code: 'ledger_unreachable',
    })
    return s3.seen.length
  }

  it('are five tries, or what AWS_MAX_ATTEMPTS or the profile says', async () => {
    expect(await triesOf()).toBe(5)
    process.env.AWS_MAX_ATTEMPTS = '2'
    expect(await triesOf()).toBe(2)
    delete process.env.AWS_MAX_ATTEMPTS
    await settings('[default]\nmax_attempts = 3\naws_access_key_id = x\naws_secret_access_key = x\n')
    expect(await triesOf()).toBe(3)
  })
})
