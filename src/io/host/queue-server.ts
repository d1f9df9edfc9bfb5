import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { BuildAppOptions } from 'fauxqs'
import { messageOf } from '../../errors.ts'
import { isSqlite, SQLITE_FULL } from './state-dir.ts'

/** Queues belong to a region; clients of the embedded one sign with this. */
export const LOCAL_REGION = 'us-east-1'
/** Prefix of the embedded queues' names. */
export const LOCAL_PREFIX = 'bake'

const DAY_SECONDS = 86_400
/** As on AWS: jobs are kept 4 days, dead letters 14; a worker renews at a third of 60 s. */
const jobs = { VisibilityTimeout: '60', MessageRetentionPeriod: String(4 * DAY_SECONDS) }
const QUEUES: Record<string, Record<string, string>> = {
  [LOCAL_PREFIX]: jobs,
  [`${LOCAL_PREFIX}-high`]: jobs,
  [`${LOCAL_PREFIX}-ami`]: jobs,
  [`${LOCAL_PREFIX}-dead`]: { MessageRetentionPeriod: String(14 * DAY_SECONDS) },
}
/** SQS takes 1 MiB at most; JSON may escape each byte. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024

type Store = NonNullable<BuildAppOptions['stores']>['sqsStore']
type Received = { Messages?: { ReceiptHandle: string }[] }

export interface QueueServer {
  readonly port: number
  /** Jobs that are not finished, over all lanes: visible, in flight and delayed. */
  pending(): number
  stop(): Promise<void>
}

/**
 * The embedded SQS: fauxqs's store, SQLite persistence and SQS actions behind an HTTP server of our own. `startFauxqs` itself isn't used because it
 * listens on all addresses, loads S3 and SNS as well (25 MB, 0.2 s), has no way to tell that a poller is gone, and in 2.4.1 drops a message that is
 * handed back (ChangeMessageVisibility 0) while persistence is on. `dataDir` belongs to one server at a time: the host's lock sees to that.
 */
export async function startQueueServer(options: { port: number; dataDir: string }): Promise<QueueServer> {
  const { store, router, close } = await openStore(options.dataDir)
  // An ESM import of node:http evaluates its lazy getters and so loads undici: 30 ms and 6 MB.
  const server = process.getBuiltinModule('node:http').createServer((request, response) => {
    answer(store, router, request, response).catch((error: unknown) => {
      console.error('queue:', error)
      if (response.headersSent) return response.end()
      const name = isSqlite(error, SQLITE_FULL) ? 'DiskFull' : 'InternalError'
      response.writeHead(500, { 'content-type': 'application/x-amz-json-1.0' })
      return response.end(JSON.stringify({ __type: `com.amazonaws.sqs#${name}`, message: messageOf(error) }))
    })
  })
  // Idle keep-alive connections of long polls must outlive the pause between two polls.
  server.keepAliveTimeout = 65_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port, '127.0.0.1', resolve)
  }).catch((error: unknown) => {
    close()
    throw error
  })
  const { port } = server.address() as AddressInfo
  for (const [name, attributes] of Object.entries(QUEUES)) {
    // Creating a queue that is there would delete its messages (INSERT OR REPLACE and a cascade).
    if (store.getQueueByName(name) === undefined)
      store.createQueue(
        name,
        `http://127.0.0.1:${port}/000000000000/${name}`,
        `arn:aws:sqs:${LOCAL_REGION}:000000000000:${name}`,
        attributes,
      )
  }
  const lanes = [LOCAL_PREFIX, `${LOCAL_PREFIX}-high`, `${LOCAL_PREFIX}-ami`].map((name) => store.getQueueByName(name)!)
  return {
    port,
    pending() {
      store.processAllTimers()
      return lanes.reduce(
        (sum, queue) => sum + queue.messages.length + queue.inflightMessages.size + queue.delayedMessages.length,
        0,
      )
    },
    async stop() {
      store.shutdown()
      await new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      })
      close()
    },
  }
}

/** The parts are no public exports of fauxqs, hence its exact version in package.json and the contract suite that runs against this server. */
async function openStore(dataDir: string) {
  const root = import.meta.resolve('fauxqs')
  const part = (path: string) => import(new URL(path, root).href)
  const names = [
    'createQueue',
    'getQueueUrl',
    'getQueueAttributes',
    'sendMessage',
    'receiveMessage',
    'deleteMessage',
    'changeMessageVisibility',
  ]
  const [{ SqsStore }, { SqsRouter }, { PersistenceManager }, ...actions] = await Promise.all([
    part('./sqs/sqsStore.js'),
    part('./sqs/sqsRouter.js'),
    part('./persistence.js'),
    ...names.map((name) => part(`./sqs/actions/${name}.js`)),
  ])
  const store: Store = new SqsStore()
  const persistence = new PersistenceManager(dataDir)
  const ready = persistence.db.prepare(
    'UPDATE sqs_messages SET receipt_handle = NULL, visibility_deadline = NULL WHERE message_id = ?',
  )
  // fauxqs 2.4.1 sets a NOT NULL column to NULL here, and the message that is handed back is gone from memory.
  persistence.updateMessageReady = (id: string) => ready.run(id)
  persistence.loadSqsQueues(store)
  store.persistence = persistence
  for (const queue of store.allQueues()) queue.persistence = persistence
  const router = new SqsRouter(store)
  names.forEach((name, n) => {
    router.register(`${name.charAt(0).toUpperCase()}${name.slice(1)}`, actions[n][name])
  })
  return { store, router: router as Router, close: () => persistence.close() }
}

interface Router {
  handle(
    request: { headers: IncomingMessage['headers']; body: unknown },
    reply: { status(code: number): void; header(name: string, value: string): void },
  ): Promise<unknown>
}

async function answer(store: Store, router: Router, request: IncomingMessage, response: ServerResponse): Promise<void> {
  // Not from a web page: neither under another name (DNS rebinding) nor without the header that needs a preflight.
  const host = request.headers.host?.replace(/:\d+$/, '')
  if ((host !== '127.0.0.1' && host !== 'localhost') || Number(request.headers['content-length'] ?? 0) > MAX_REQUEST_BYTES) {
    response.writeHead(403).end()
    return
  }
  let body: { QueueUrl?: string }
  try {
    body = JSON.parse(await text(request))
  } catch {
    response.writeHead(400).end()
    return
  }
  const reply = {
    status(code: number) {
      response.statusCode = code
    },
    header(name: string, value: string) {
      response.setHeader(name, value)
    },
  }
  const result = (await router.handle({ headers: request.headers, body }, reply)) as Received
  const handBack = () => {
    // A poller that left before its answer: its messages go to the next one now, not after the visibility timeout.
    for (const message of result.Messages ?? []) store.getQueue(body.QueueUrl ?? '')?.changeVisibility(message.ReceiptHandle, 0)
  }
  if (response.destroyed || request.socket.destroyed) return handBack()
  response.once('close', () => {
    if (!response.writableFinished) handBack()
  })
  response.end(JSON.stringify(result))
}
