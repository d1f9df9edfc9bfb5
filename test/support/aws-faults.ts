import { Agent, createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { SqsReceipts } from './aws-gaps/sqs-receipts.ts'
import { serve } from './serve.ts'

export interface AwsCall {
  /** As in the signature's scope: `s3`, `sqs`, `ssm`, `ecr`, `ec2`, … */
  service: string
  /** `SendMessage` where the protocol names it, else the method: `PUT`. */
  action: string
  /** Path and query as sent. */
  path: string
  headers: IncomingMessage['headers']
  /** Of a service that speaks JSON or queries; '' for S3. */
  body: string
}

/**
 * What becomes of a call. An error as the service would say it; `reset`: cut before anybody sees it; `lost`: carried out, and cut before the answer;
 * `torn`: carried out, and cut in the middle of the answer's body. `delayMs`: late, and then carried out.
 */
export type AwsFault = { status: number; code: string } | { delayMs: number } | 'reset' | 'lost' | 'torn'

/** Which calls: those of a service, of one action, whose path and body match. */
export interface AwsPattern {
  service: string
  action?: string
  about?: RegExp
}

export interface AwsProxy extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, in the emulator's place. */
  readonly endpoint: string
  /** Added to every call of a service, ms: `{ sqs: 10, s3: 20 }`. */
  latencyMs: Record<string, number>
  /** The next `times` calls that match meet the fault; infinite unless told. */
  inject(pattern: AwsPattern, fault: AwsFault, times?: number): void
  /** No faults from now on. */
  heal(): void
  /** How many calls met a fault. */
  readonly faults: number
  /** Calls so far, by `service.action`. */
  readonly calls: Record<string, number>
}

interface Injected {
  pattern: AwsPattern
  fault: AwsFault
  left: number
}

/** Stands in front of an AWS emulator on loopback: enforces what moto's SQS doesn't, counts calls, delays them by service, and fails those that a test names. */
export async function startAwsProxy(target: string, latencyMs: Record<string, number> = {}): Promise<AwsProxy> {
  const { hostname, port } = new URL(target)
  const agent = new Agent({ keepAlive: false })
  let injected: Injected[] = []
  const receipts = new SqsReceipts()
  const proxy = { latencyMs, faults: 0, calls: {} as Record<string, number> }

  const server = createServer((request, response) => {
    // Whoever hung up, on either side, ends the call.
    answer(request, response).catch(() => response.destroy())
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = await readCall(request)
    const name = `${call.service}.${call.action}`
    proxy.calls[name] = (proxy.calls[name] ?? 0) + 1
    const fault = take(call) ?? (call.service === 'sqs' ? receipts.refusal(call) : undefined)
    const delay = (proxy.latencyMs[call.service] ?? 0) + (typeof fault === 'object' && 'delayMs' in fault ? fault.delayMs : 0)
    if (delay > 0) await sleep(delay)
    if (fault === 'reset') return void request.socket.resetAndDestroy()
    if (typeof fault === 'object' && 'status' in fault) return refuse(request, response, call, fault)
    await passOn(request, response, call, fault)
  }

  function take(call: AwsCall): AwsFault | undefined {
    const found = injected.find(({ pattern, left }) => left > 0 && matches(pattern, call))
    if (found === undefined) return undefined
    found.left--
    proxy.faults++
    return found.fault
  }

  function passOn(request: IncomingMessage, response: ServerResponse, call: AwsCall, fault: AwsFault | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      // With the caller's Host header, so that what the emulator tells of itself leads through here again.
      const { method, url: path, headers } = request
      const onward = send({ hostname, port, method, path, headers, agent }, (answer) => {
        answer.on('error', reject)
        answer.once('end', resolve)
        if (call.service === 'sqs' && answer.statusCode === 200) listen(answer, (text) => receipts.saw(call, text))
        if (fault === 'lost') {
          answer.resume()
          return request.socket.resetAndDestroy()
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        if (fault !== 'torn') return answer.pipe(response)
        answer.once('data', (bytes: Buffer) =>
          response.write(bytes.subarray(0, bytes.length / 2), () => request.socket.destroy()),
        )
        answer.resume()
      })
      onward.on('error', reject)
      if (call.service === 's3') request.on('error', reject).pipe(onward)
      else onward.end(call.body)
    })
  }

  const { endpoint, close } = await serve(server)
  return Object.assign(proxy, {
    endpoint,
    inject(pattern: AwsPattern, fault: AwsFault, times = Number.POSITIVE_INFINITY) {
      injected.push({ pattern, fault, left: times })
    },
    heal() {
      injected = []
    },
    async [Symbol.asyncDispose]() {
      await close()
      agent.destroy()
    },
  })
}

function listen(answer: IncomingMessage, told: (text: string) => void): void {
  const bytes: Buffer[] = []
  answer.on('data', (chunk: Buffer) => bytes.push(chunk))
  answer.once('end', () => told(Buffer.concat(bytes).toString()))
}

const matches = ({ service, action, about }: AwsPattern, call: AwsCall): boolean =>
  service === call.service &&
  (action === undefined || action === call.action) &&
  (about === undefined || about.test(`${call.path}\n${call.body}`))

async function readCall(request: IncomingMessage): Promise<AwsCall> {
  const { method = '', url: path = '', headers } = request
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html: Credential=<key>/<date>/<region>/<service>/aws4_request
  const service = /Credential=[^/]*\/\d+\/[^/]*\/([^/]+)\//.exec(headers.authorization ?? '')?.[1] ?? 'unknown'
  let body = ''
  if (service !== 's3') for await (const bytes of request.setEncoding('utf8')) body += bytes
  const target = String(headers['x-amz-target'] ?? '').split('.')[1]
  return { service, action: target ?? /(?:^|&)Action=(\w+)/.exec(body)?.[1] ?? method, path, headers, body }
}

/** S3 and EC2 say it in XML (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, .../AWSEC2/latest/APIReference/errors-overview.html), the others in JSON. */
function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  call: AwsCall,
  { status, code }: { status: number; code: string },
): void {
  request.resume()
  const xml = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>injected</Message><RequestId>0</RequestId></Error>`
  if (call.service === 's3')
    response.writeHead(status, { 'content-type': 'application/xml' }).end(call.action === 'HEAD' ? undefined : xml)
  else if (call.service === 'ec2')
    response
      .writeHead(status, { 'content-type': 'text/xml' })
      .end(
        `<Response><Errors><Error><Code>${code}</Code><Message>injected</Message></Error></Errors><RequestID>0</RequestID></Response>`,
      )
  else
    response
      .writeHead(status, { 'content-type': 'application/x-amz-json-1.0' })
      .end(JSON.stringify({ __type: `com.amazonaws.${call.service}#${code}`, message: 'injected' }))
}
