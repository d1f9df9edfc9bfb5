import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  ChangeMessageVisibilityCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { SqsQueue } from '../../src/io/queue-sqs.ts'

/** The queue of a project whose host runs, past bake's own checks. */
export interface RawQueue extends AsyncDisposable {
  /** Any body at all. */
  send(body: string): Promise<void>
  /** What lies in the dead letters; stays there. */
  dead(): Promise<{ body: string; reason: string | undefined }[]>
  depth(): ReturnType<SqsQueue['depth']>
}

export async function openRawQueue(projectDir: string): Promise<RawQueue> {
  const { queueEndpoint: endpoint } = JSON.parse(await readFile(join(projectDir, '.bake/host.json'), 'utf8')) as {
    queueEndpoint: string
  }
  const client = new SQSClient({
    endpoint,
    region: 'us-east-1',
    useQueueUrlAsEndpoint: false,
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })
  const queue = await SqsQueue.open({ endpoint, region: 'us-east-1', prefix: 'bake' })
  const url = async (name: string) => (await client.send(new GetQueueUrlCommand({ QueueName: name }))).QueueUrl
  return {
    async send(body) {
      await client.send(new SendMessageCommand({ QueueUrl: await url('bake'), MessageBody: body }))
    },
    async dead() {
      const QueueUrl = await url('bake-dead')
      const found: { body: string; reason: string | undefined; receipt: string }[] = []
      for (;;) {
        const { Messages = [] } = await client.send(
          new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'], VisibilityTimeout: 30 }),
        )
        if (Messages.length === 0) break
        for (const { Body = '', MessageAttributes, ReceiptHandle = '' } of Messages)
          found.push({ body: Body, reason: MessageAttributes?.reason?.StringValue, receipt: ReceiptHandle })
      }
      for (const { receipt } of found)
        await client.send(new ChangeMessageVisibilityCommand({ QueueUrl, ReceiptHandle: receipt, VisibilityTimeout: 0 }))
      return found.map(({ body, reason }) => ({ body, reason }))
    },
    depth: () => queue.depth(),
    async [Symbol.asyncDispose]() {
      queue.close()
      client.destroy()
    },
  }
}
