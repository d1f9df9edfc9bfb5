import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { serve } from '../serve.ts'

/** Auto Scaling's protocol: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/Welcome.html. Forms go in, XML comes out. */
export interface Answer {
  status: number
  body: string
}

const NAMESPACE = 'http://autoscaling.amazonaws.com/doc/2011-01-01/'

export const answerOf = (action: string, result = ''): Answer => ({
  status: 200,
  body: `<${action}Response xmlns="${NAMESPACE}"><${action}Result>${result}</${action}Result><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></${action}Response>`,
})

export const refusal = (message: string, code = 'ValidationError', status = 400): Answer => ({
  status,
  body: `<ErrorResponse xmlns="${NAMESPACE}"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
})

export interface Gaps extends AsyncDisposable {
  readonly endpoint: string
}

export interface GapOptions {
  /** Calls that moto answers. */
  forwarded: ReadonlySet<string>
  /** What the stand-in answers in its place; undefined: it is moto's. */
  own(action: string, form: URLSearchParams): Answer | undefined | Promise<Answer | undefined>
  /** Of each call that moto took. */
  passed?(action: string, form: URLSearchParams): void
  /** What becomes of moto's answer. */
  change?(action: string, form: URLSearchParams, body: string): Promise<string>
}

/** A server in front of moto's Auto Scaling; a call that nobody knows is refused and fails the test at the end. */
export async function startScalingGaps(moto: string, { forwarded, own, passed, change }: GapOptions): Promise<Gaps> {
  const unknown: string[] = []
  const server = createServer(async (request, response) => {
    const body = await text(request)
    const form = new URLSearchParams(body)
    const action = form.get('Action') ?? ''
    const send = ({ status, body: xml }: Answer) => response.writeHead(status, { 'content-type': 'text/xml' }).end(xml)
    const mine = await own(action, form)
    if (mine !== undefined) return send(mine)
    if (!forwarded.has(action)) {
      unknown.push(action)
      return send(refusal(`the stand-in doesn't know ${action}`))
    }
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !['host', 'content-length', 'connection'].includes(name)),
    ) as Record<string, string>
    const answer = await fetch(moto, { method: 'POST', headers, body })
    if (answer.ok) passed?.(action, form)
    const told = await answer.text()
    send({ status: answer.status, body: answer.ok && change ? await change(action, form, told) : told })
  })
  const { endpoint, close } = await serve(server)
  return {
    endpoint,
    async [Symbol.asyncDispose]() {
      await close()
      if (unknown.length > 0) throw new Error(`calls that the stand-in for Auto Scaling doesn't know: ${unknown.join(', ')}`)
    },
  }
}
