import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { CreateQueueCommand, GetQueueAttributesCommand, SQSClient } from '@aws-sdk/client-sqs'
import { queueName } from '../../src/io/queue-sqs.ts'
import { waitFor } from '../../src/wait.ts'

/** moto, the AWS emulator (https://docs.getmoto.org), as a server of its own: SQS, S3, ECR, SSM, … over their real protocols, all state in its memory. */
export interface Moto extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, for every service. */
  readonly endpoint: string
  readonly pid: number
  /** What points the SDK of a child process at it: AWS_ENDPOINT_URL, AWS_REGION and credentials. */
  readonly env: Record<'AWS_ENDPOINT_URL' | 'AWS_REGION' | 'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY', string>
  /** Makes a bucket and gives its name, a random one unless told. */
  createBucket(name?: string): Promise<string>
  /** Makes the queues of all lanes and the dead letters' and gives their prefix, a random one unless told. */
  createQueues(options?: MotoQueues): Promise<string>
  /** Ends it (SIGKILL). */
  stop(): Promise<void>
}

export interface MotoQueues {
  prefix?: string
  /** Queues per lane; 1 unless told. */
  shards?: number
  /** SQS moves a message to the dead letters by itself when it was received more often. Never unless told. */
  maxReceiveCount?: number
}

export const MOTO_REGION = 'us-east-1'
const SERVER = fileURLToPath(new URL('moto-server.py', import.meta.url))
const CREDENTIALS = { accessKeyId: 'test', secretAccessKey: 'test' }
/** Importing moto takes a second, more on a busy machine. */
const START_MS = 120_000
/** Of what it tells, for the error when it doesn't start. */
const OUTPUT_CHARACTERS = 8_000

/** A name that no other test has: lower case letters and digits, fit for a bucket, a queue and a repository. */
export const uniqueName = (start: string): string => `${start}-${randomBytes(6).toString('hex')}`

/** Starts a moto server on loopback. It dies with this process, whatever signal that gets. */
export async function startMoto(options: { port?: number } = {}): Promise<Moto> {
  const python = findPython()
  const arguments_ = ['--pdeathsig', 'KILL', python, SERVER, '-H', '127.0.0.1', '-p', String(options.port ?? 0)]
  const child = spawn('setpriv', arguments_, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS)
    })
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const port = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(`moto ended: ${output}`)
      return /Running on http:\/\/127\.0\.0\.1:(\d+)/.exec(output)?.[1]
    },
    { what: 'moto', deadlineMs: START_MS, intervalMs: 20 },
  ).catch(async (error) => {
    await stop()
    throw error
  })
  const endpoint = `http://127.0.0.1:${port}`
  const client = { endpoint, region: MOTO_REGION, credentials: CREDENTIALS, maxAttempts: 5 }
  const s3 = new S3Client({ ...client, forcePathStyle: true })
  const sqs = new SQSClient({ ...client, useQueueUrlAsEndpoint: false })
  return {
    endpoint,
    pid: child.pid!,
    env: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: MOTO_REGION,
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    },
    async createBucket(name = uniqueName('bake-test')) {
      await s3.send(new CreateBucketCommand({ Bucket: name }))
      return name
    },
    async createQueues({ prefix = uniqueName('bake-test'), shards = 1, maxReceiveCount } = {}) {
      const dead = await sqs.send(new CreateQueueCommand({ QueueName: `${prefix}-dead` }))
      const { Attributes } = await sqs.send(
        new GetQueueAttributesCommand({ QueueUrl: dead.QueueUrl, AttributeNames: ['QueueArn'] }),
      )
      const redrive = JSON.stringify({ deadLetterTargetArn: Attributes?.QueueArn, maxReceiveCount })
      for (const lane of ['high', 'normal', 'machine'] as const)
        for (let shard = 0; shard < (lane === 'machine' ? 1 : shards); shard++)
          await sqs.send(
            new CreateQueueCommand({
              QueueName: queueName(prefix, lane, shard),
              ...(maxReceiveCount === undefined ? {} : { Attributes: { RedrivePolicy: redrive } }),
            }),
          )
      return prefix
    },
    stop,
    async [Symbol.asyncDispose]() {
      s3.destroy()
      sqs.destroy()
      await stop()
    },
  }
}

/** The distribution's Python when it has moto, else the first one in PATH; PYTHON names another one. As bin/setup looks. */
function findPython(): string {
  const look = 'import importlib.util as u, sys; sys.exit(0 if u.find_spec("moto") and u.find_spec("flask_cors") else 1)'
  const pythons = process.env.PYTHON ? [process.env.PYTHON] : ['/usr/bin/python3', 'python3']
  const found = pythons.find((python) => spawnSync(python, ['-c', look]).status === 0)
  if (found !== undefined) return found
  throw new Error('there is no moto: run bin/setup --tests, which installs python3-moto')
}
