import { DeleteMessageCommand, GetQueueUrlCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { MAX_BODY_BYTES } from '../../src/io/queue-body.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { MOTO_REGION, type Moto, startMoto, uniqueName } from '../support/moto.ts'
import { queueContract } from '../support/queue-contract.ts'

let moto: Moto
let proxy: AwsProxy
beforeAll(async () => {
  moto = await startMoto()
  proxy = await startAwsProxy(moto.endpoint)
  // As a fleet is told of an emulator. Given as an option it would be the host's own queue, which notices who hangs up.
  Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL: proxy.endpoint })
})
afterAll(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto[Symbol.asyncDispose]()
})

for (const shards of [1, 3])
  queueContract(`SqsQueue with ${shards} shard${shards === 1 ? '' : 's'} per lane on moto`, async () => {
    const prefix = await moto.createQueues({ shards })
    const options = { region: MOTO_REGION, prefix, shards }
    const queue = await SqsQueue.open(options)
    const other = await SqsQueue.open(options)
    return {
      queue,
      other,
      shards,
      maxBodyBytes: MAX_BODY_BYTES,
      dead: () => takeDead(prefix),
      async close() {
        queue.close()
        other.close()
      },
    }
  })

it('says that the queue is missing and what makes it', async () => {
  const queue = await SqsQueue.open({ region: MOTO_REGION, prefix: uniqueName('nowhere'), shards: 2 })
  const missing = { code: 'queue_missing', exit: 4, kind: 'world', next: expect.stringContaining('bake setup') }
  await expect(queue.send('normal', '{}', 1)).rejects.toMatchObject(missing)
  await expect(queue.depths()).rejects.toMatchObject(missing)
  queue.close()
})

async function takeDead(prefix: string) {
  const client = new SQSClient({
    endpoint: moto.endpoint,
    region: MOTO_REGION,
    useQueueUrlAsEndpoint: false,
    credentials: { accessKeyId: 'x', secretAccessKey: 'x' },
  })
  const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: `${prefix}-dead` }))
  const { Messages = [] } = await client.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
  )
  for (const { ReceiptHandle } of Messages) await client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }))
  client.destroy()
  return Messages.map((message) => ({ body: message.Body ?? '', reason: message.MessageAttributes?.reason?.StringValue }))
}
