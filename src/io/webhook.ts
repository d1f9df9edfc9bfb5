import { createHmac } from 'node:crypto'
import { BakeError, errnoOf, messageOf, refused, unavailable } from '../errors.ts'
import { exchange, TooLongError } from './registry-request.ts'

export interface WebhookRequest {
  url: string
  /** JSON, sent and signed as it is. */
  body: string
  /** Signed with each of the secrets (Standard Webhooks), under this id, which is the same in every try. */
  signed?: { id: string; secrets: Buffer[] }
  signal: AbortSignal
  /** From the start to the last byte of the answer; 5 s unless told. */
  timeoutMs?: number
}

const TIMEOUT_MS = 5_000
/** Nobody reads more of an answer than its beginning, for an error's message. */
const MAX_ANSWER_BYTES = 1024 * 1024
const SHOWN_ANSWER_CHARS = 100
/** RFC 9110: the same request may be answered otherwise later. Other 4xx won't be. */
const PASSING = new Set([408, 421, 425, 429])
/** https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Signature scheme": 24 bytes at least, 64 at most. */
const SECRET_PREFIX = 'whsec_'
const SECRET_BYTES = { least: 24, most: 64 }

/**
 * One POST to a webhook, which has taken it when it answers 2xx; redirects are not followed. Throws webhook_failed (the world's: another try may help),
 * webhook_refused (the user's: it won't), or the signal's reason. The URL is a secret: no error holds more of it than the host.
 */
export async function postWebhook(request: WebhookRequest): Promise<void> {
  const { body, signal, signed } = request
  const url = new URL(request.url)
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'user-agent': 'bake',
    ...(signed && signatureHeaders(signed.id, Math.floor(Date.now() / 1000), body, signed.secrets)),
  }
  const options = { timeoutMs: request.timeoutMs ?? TIMEOUT_MS, retries: 0, signal }
  const call = { method: 'POST', url, headers, body: Buffer.from(body), maxBytes: MAX_ANSWER_BYTES } as const
  const answer = await exchange(call, options).catch((error: unknown) => {
    signal.throwIfAborted()
    if (error instanceof TooLongError) throw refused('webhook_refused', `${url.host} answered without an end`)
    throw unavailable('webhook_failed', `${url.host} ${reasonOf(error, options.timeoutMs)}`)
  })
  if (answer.status >= 200 && answer.status < 300) return
  const shown = answer.body.toString('utf8').replace(/\s+/g, ' ').trim().slice(0, SHOWN_ANSWER_CHARS)
  const message = `${url.host} answered ${answer.status}${shown === '' || shown.startsWith('<') ? '' : ` (${shown})`}`
  if (answer.status >= 500 || PASSING.has(answer.status)) throw unavailable('webhook_failed', message)
  throw refused('webhook_refused', message)
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === 'TimeoutError') return `did not answer within ${timeoutMs / 1000} s`
  return `can't be reached: ${errnoOf(error) ?? (error instanceof BakeError ? error.code : messageOf(error))}`
}

/** The three headers of the Standard Webhooks specification 1.0.0. `seconds`: of this try, since the epoch. */
export function signatureHeaders(id: string, seconds: number, body: string, secrets: Buffer[]): Record<string, string> {
  const sign = (secret: Buffer) => `v1,${createHmac('sha256', secret).update(`${id}.${seconds}.${body}`).digest('base64')}`
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': secrets.map(sign).join(' '),
  }
}

/** `whsec_<base64>`, several with blanks between them while one takes another's place; undefined when one isn't such a secret. */
export function parseWebhookSecrets(text: string): Buffer[] | undefined {
  const secrets = text
    .trim()
    .split(/\s+/)
    .map((word) => (word.startsWith(SECRET_PREFIX) ? word.slice(SECRET_PREFIX.length) : ''))
  const bytes = secrets.map((encoded) => Buffer.from(encoded, 'base64'))
  const isValid = (secret: Buffer, at: number) =>
    secret.length >= SECRET_BYTES.least &&
    secret.length <= SECRET_BYTES.most &&
    secret.toString('base64').replace(/=+$/, '') === secrets[at]!.replace(/=+$/, '')
  return bytes.every(isValid) ? bytes : undefined
}
