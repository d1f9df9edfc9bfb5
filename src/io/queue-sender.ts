import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf, messageOf, unavailable } from '../errors.ts'
import type { JobSender, Lane } from './queue.ts'
import { messageBody } from './queue-body.ts'

const TIMEOUT_MS = 10_000
/** A host that is being replaced is back within a second or two. A job that is sent twice is built once. */
const TRIES = 4
const RETRY_MS = 400

/**
 * Sends jobs to the queue of this machine's host: one plain SQS request (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html),
 * because loading the SDK costs an asker 60 ms, a quarter of what `bake image` takes for a commit that only needs a tag. AWS is spoken to with the SDK.
 * @param endpoint asked for at each try: a host that takes over may have another.
 */
export function localSender(endpoint: () => string, prefix: string): JobSender {
  return {
    shards: 1,
    async send(lane: Lane, json: string): Promise<void> {
      // As queueName, whose module loads the SDK's.
      const queue = `${prefix}${{ normal: '', high: '-high', machine: '-ami' }[lane]}`
      const body = JSON.stringify({ QueueUrl: `${endpoint()}/000000000000/${queue}`, MessageBody: messageBody(json) })
      for (let tries = 1; ; tries++) {
        try {
          return await post(endpoint(), body)
        } catch (error) {
          if (tries < TRIES && errnoOf(error) !== undefined) await sleep(RETRY_MS)
          else
            throw unavailable('queue_unreachable', `the queue at ${endpoint()} doesn't take the job: ${messageOf(error)}`, {
              ids: { queue },
              next: 'run the command again: it starts another host process',
              cause: error,
            })
        }
      }
    },
  }
}

function post(endpoint: string, body: string): Promise<void> {
  // An import of node:http would load undici too.
  const { request } = process.getBuiltinModule('node:http')
  return new Promise((resolve, reject) => {
    const headers = { 'x-amz-target': 'AmazonSQS.SendMessage', 'content-type': 'application/x-amz-json-1.0' }
    const call = request(endpoint, { method: 'POST', headers, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) })
    call.on('error', reject)
    call.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('error', reject)
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`HTTP ${response.statusCode} ${text.slice(0, 300)}`)),
      )
    })
    call.end(body)
  })
}
