import { CreateQueueCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { sendToQueue } from '../../src/io/notice-queue.ts'
import { MOTO_REGION, type Moto, startMoto, uniqueName } from '../support/moto.ts'

let moto: Moto
let sqs: SQSClient
beforeAll(async () => {
  moto = await startMoto()
  for (const [name, value] of Object.entries(moto.env)) vi.stubEnv(name, value)
  sqs = new SQSClient({ region: MOTO_REGION, useQueueUrlAsEndpoint: false })
}, 180_000)
afterAll(async () => {
  vi.unstubAllEnvs()
  sqs.destroy()
  await moto[Symbol.asyncDispose]()
})

/** The account that moto is. */
const ACCOUNT = '123456789012'
const notice = (name: string) => ({
  region: MOTO_REGION,
  account: ACCOUNT,
  name,
  id: 'bake_1_built',
  type: 'image.built',
  group: 'web',
  body: '{"a":1}',
  signal: new AbortController().signal,
})

test.each(['', '.fifo'])('a message arrives in a queue%s with what tells repetitions', async (suffix) => {
  const QueueName = uniqueName('told') + suffix
  const { QueueUrl } = await sqs.send(
    new CreateQueueCommand({ QueueName, ...(suffix ? { Attributes: { FifoQueue: 'true' } } : {}) }),
  )
  await sendToQueue(notice(QueueName))
  if (suffix) await sendToQueue(notice(QueueName))
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
  )
  expect(Messages.map(({ Body }) => Body)).toEqual(['{"a":1}'])
  expect(Messages[0]?.MessageAttributes).toMatchObject({
    id: { StringValue: 'bake_1_built' },
    type: { StringValue: 'image.built' },
  })
})

test('a queue that is not there is the world’s error', async () => {
  await expect(sendToQueue(notice('nowhere'))).rejects.toMatchObject({ kind: 'world', code: 'queue_missing' })
})
