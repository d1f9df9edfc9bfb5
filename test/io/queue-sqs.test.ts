import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DeleteMessageCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LOCAL_PREFIX, LOCAL_REGION, type QueueServer, startQueueServer } from '../../src/io/host/queue-server.ts'
import { MAX_BODY_BYTES } from '../../src/io/queue-body.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { queueContract } from '../support/queue-contract.ts'

const options = (port: number) => ({ endpoint: `http://127.0.0.1:${port}`, region: LOCAL_REGION, prefix: LOCAL_PREFIX })

async function takeDead(port: number) {
  const client = new SQSClient({ ...options(port), credentials: { accessKeyId: 'x', secretAccessKey: 'x' } })
  const QueueUrl = `http://127.0.0.1:${port}/000000000000/${LOCAL_PREFIX}-dead`
  const { Messages = [] } = await client.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
  )
  for (const { ReceiptHandle } of Messages) await client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }))
  client.destroy()
  return Messages.map((message) => ({ body: message.Body ?? '', reason: message.MessageAttributes?.reason?.StringValue }))
}

queueContract('SqsQueue on the embedded server', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
  const server = await startQueueServer({ port: 0, dataDir })
  const queue = await SqsQueue.open(options(server.port))
  const other = await SqsQueue.open(options(server.port))
  return {
    queue,
    other,
    maxBodyBytes: MAX_BODY_BYTES,
    dead: () => takeDead(server.port),
    async close() {
      queue.close()
      other.close()
      await server.stop()
      await rm(dataDir, { recursive: true })
    },
  }
})

describe('SqsQueue', () => {
  let dataDir: string
  let server: QueueServer
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
    server = await startQueueServer({ port: 0, dataDir })
  })
  afterAll(async () => {
    await server.stop()
    await rm(dataDir, { recursive: true })
  })

  it('names a queue that is missing', async () => {
    const queue = await SqsQueue.open({ ...options(server.port), prefix: 'elsewhere' })
    await expect(queue.send('high', 'x')).rejects.toMatchObject({
      code: 'queue_missing',
      exit: 4,
      ids: { queue: 'elsewhere-high' },
    })
    queue.close()
  })

  it('finds the queue again after it was missing once', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'bake-queue-'))
    const first = await startQueueServer({ port: 0, dataDir: empty })
    await first.stop()
    const queue = await SqsQueue.open(options(first.port))
    await expect(queue.send('normal', 'x')).rejects.toMatchObject({ code: 'queue_unreachable', exit: 4, kind: 'world' })
    const second = await startQueueServer({ port: first.port, dataDir: empty })
    await queue.send('normal', 'x')
    expect(second.pending()).toBe(1)
    queue.close()
    await second.stop()
    await rm(empty, { recursive: true })
  })

  it('says so when what listens there is no queue', async () => {
    const wrong = createServer((socket) =>
      socket.on('error', () => {}).end('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n'),
    )
    await new Promise<void>((resolve) => wrong.listen(0, '127.0.0.1', resolve))
    const queue = await SqsQueue.open(options((wrong.address() as { port: number }).port))
    await expect(queue.depth()).rejects.toMatchObject({ code: 'queue_unreachable' })
    queue.close()
    wrong.close()
  })

  it('refuses characters that SQS has no room for', async () => {
    const queue = await SqsQueue.open(options(server.port))
    await expect(queue.send('normal', 'a\u0001b')).rejects.toMatchObject({ code: 'message_invalid', exit: 2 })
    queue.close()
  })

  it('lets the process end, without close, at once after a send and after an aborted poll', () => {
    const module = fileURLToPath(new URL('../../src/io/queue-sqs.ts', import.meta.url))
    const script = `
      const { SqsQueue } = await import(${JSON.stringify(module)})
      const queue = await SqsQueue.open(${JSON.stringify(options(server.port))})
      await queue.send('normal', 'x')
      const abort = new AbortController()
      const poll = queue.receive('high', { max: 1, waitSeconds: 20, visibilitySeconds: 30, signal: abort.signal })
      setTimeout(() => abort.abort(), 100)
      await poll
      process.stdout.write(String(Date.now()))`
    // The server is in this process, so the child may not block it.
    return runNode(script).then(({ stdout, endedMs, code }) => {
      expect(code).toBe(0)
      expect(endedMs - Number(stdout)).toBeLessThan(1_000)
    })
  })
})

describe('the embedded queue server', () => {
  it('keeps messages, receive counts and hand-backs over a restart on another port', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
    const first = await startQueueServer({ port: 0, dataDir })
    const before = await SqsQueue.open(options(first.port))
    await before.send('normal', 'ready')
    await before.send('high', 'handed back')
    const [message] = await before.receive('high', { max: 1, waitSeconds: 0, visibilitySeconds: 60 })
    await before.renew(message!, 0)
    before.close()
    await first.stop()

    const second = await startQueueServer({ port: 0, dataDir })
    const after = await SqsQueue.open(options(second.port))
    const now = { max: 10, waitSeconds: 0, visibilitySeconds: 60 }
    expect(await after.receive('normal', now)).toMatchObject([{ body: 'ready', receives: 1 }])
    expect(await after.receive('high', now)).toMatchObject([{ body: 'handed back', receives: 2 }])
    expect(second.pending()).toBe(2)
    after.close()
    await second.stop()
    await rm(dataDir, { recursive: true })
  })

  it('listens on loopback only', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
    const server = await startQueueServer({ port: 0, dataDir })
    const hex = server.port.toString(16).toUpperCase().padStart(4, '0')
    const { stdout } = spawnSync('cat', ['/proc/net/tcp', '/proc/net/tcp6'], { encoding: 'utf8' })
    const listening = stdout
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A' && fields[1]?.endsWith(`:${hex}`))
    expect(listening.map((fields) => fields[1])).toEqual([`0100007F:${hex}`])
    await server.stop()
    await rm(dataDir, { recursive: true })
  })

  it('answers no request that comes under another host name', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'bake-queue-'))
    const server = await startQueueServer({ port: 0, dataDir })
    const { request } = await import('node:http')
    const status = await new Promise((resolve, reject) => {
      request({ port: server.port, host: '127.0.0.1', method: 'POST', headers: { host: 'evil.example' } }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .on('error', reject)
        .end('{}')
    })
    expect(status).toBe(403)
    await server.stop()
    await rm(dataDir, { recursive: true })
  })
})

async function runNode(script: string): Promise<{ stdout: string; endedMs: number; code: number | null }> {
  const { spawn } = await import('node:child_process')
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { stdout, endedMs: Date.now(), code }
}
