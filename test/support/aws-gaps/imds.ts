import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import { serve } from '../serve.ts'

/**
 * STAND-IN for EC2's instance metadata service, version 2 only, which moto doesn't have; written from
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html and .../spot-instance-termination-notices.html: a token by PUT with a
 * lifetime of 1–21600 s, none for what a proxy forwarded, 401 without a valid token, 404 for what isn't there.
 */
export interface TestImds extends AsyncDisposable {
  readonly endpoint: string
  /** What points a child process at it. */
  readonly env: Record<string, string>
  /** Announces a spot interruption `inSeconds` from now. */
  interrupt(inSeconds: number, action?: 'terminate' | 'stop' | 'hibernate'): void
  /** The group's target state for the instance; undefined: it is in no group. */
  target: string | undefined
  /** Tokens handed out are valid no more. */
  forgetTokens(): void
  /** How often each path was read with a token. */
  readonly reads: Record<string, number>
  /** Tokens handed out. */
  tokens: number
  /** Requests that the real service refuses: none come from a right client. */
  readonly refused: string[]
}

export async function startImds({
  instance = 'i-0123456789abcdef0',
  region = 'us-east-1',
  /** The service's clock against this machine's, ms. */
  clockMs = 0,
} = {}): Promise<TestImds> {
  let valid = new Map<string, number>()
  let interruption: { action: string; time: string } | undefined
  const state = {
    target: undefined as string | undefined,
    tokens: 0,
    reads: {} as Record<string, number>,
    refused: [] as string[],
  }
  const now = () => Date.now() + clockMs

  const refuse = (status: number, request: IncomingMessage) => {
    state.refused.push(`${status} ${request.method} ${request.url}`)
    return { status, body: '' }
  }
  const answer = (request: IncomingMessage): { status: number; body: string } => {
    const path = request.url ?? ''
    if (path === '/latest/api/token') {
      if (request.method !== 'PUT') return refuse(405, request)
      if (request.headers['x-forwarded-for'] !== undefined) return refuse(403, request)
      const seconds = Number(request.headers['x-aws-ec2-metadata-token-ttl-seconds'])
      if (!(Number.isInteger(seconds) && seconds >= 1 && seconds <= 21_600)) return refuse(400, request)
      const token = randomBytes(40).toString('base64')
      valid.set(token, now() + seconds * 1000)
      state.tokens++
      return { status: 200, body: token }
    }
    if (request.method !== 'GET') return refuse(405, request)
    const token = request.headers['x-aws-ec2-metadata-token']
    if (typeof token !== 'string') return refuse(401, request)
    // A token of before is refused too, but that can happen to a right client.
    if (!((valid.get(token) ?? 0) > now())) return { status: 401, body: '' }
    const read = path.replace('/latest/meta-data/', '')
    state.reads[read] = (state.reads[read] ?? 0) + 1
    const documents: Record<string, string | undefined> = {
      'instance-id': instance,
      'placement/region': region,
      'spot/instance-action': interruption && JSON.stringify(interruption),
      'autoscaling/target-lifecycle-state': state.target,
    }
    const found = Object.hasOwn(documents, read) ? documents[read] : undefined
    return found === undefined ? { status: 404, body: 'Not Found' } : { status: 200, body: found }
  }
  const server = createServer((request, response) => {
    const { status, body } = answer(request)
    response.sendDate = false
    response.writeHead(status, { 'content-type': 'text/plain', date: new Date(now()).toUTCString(), server: 'EC2ws' }).end(body)
  })
  const { endpoint, close } = await serve(server)
  return Object.assign(state, {
    endpoint,
    env: { AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint },
    interrupt(inSeconds: number, action = 'terminate') {
      interruption = { action, time: new Date(now() + inSeconds * 1000).toISOString().replace(/\.\d+Z$/, 'Z') }
    },
    forgetTokens() {
      valid = new Map()
    },
    async [Symbol.asyncDispose]() {
      await close()
    },
  })
}
