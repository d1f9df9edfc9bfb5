import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../errors.ts'

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST'
  url: URL
  headers: Record<string, string>
  body?: Uint8Array | undefined
  /** A longer answer is an error; all of it is held in memory. */
  maxBytes: number
}

export interface HttpResponse {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

export interface HttpOptions {
  /** From the start of one attempt to the last byte of its answer, ms. */
  timeoutMs: number
  /** Attempts after the first one, for answers that another try may mend. */
  retries: number
  signal?: AbortSignal | undefined
}

/** The answer was longer than it may be. */
export class TooLongError extends Error {}

const RESET = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED'])
const BUSY = new Set([408, 429, 500, 502, 503, 504])
/** A registry that asks for more patience than this is told to the user instead. */
const MAX_RETRY_AFTER_MS = 10_000
const FIRST_BACKOFF_MS = 200

/**
 * One HTTP exchange, tried again after a connection reset, 429 (by its Retry-After) or 5xx: all our requests are idempotent. Never follows a redirect.
 * `process.getBuiltinModule`, because fetch, and an import of node:http, load undici as well: 30 ms in a process that sends one request.
 */
export async function exchange(request: HttpRequest, options: HttpOptions): Promise<HttpResponse> {
  for (let tries = 0; ; tries++) {
    const last = tries >= options.retries
    const backoffMs = FIRST_BACKOFF_MS * 2 ** tries * (0.75 + Math.random() / 2)
    try {
      const answer = await once(request, options)
      const afterMs = retryAfterMs(answer)
      if (last || !BUSY.has(answer.status) || isFull(answer) || afterMs > MAX_RETRY_AFTER_MS) return answer
      await sleep(Math.max(afterMs, backoffMs), undefined, { signal: options.signal })
    } catch (error) {
      options.signal?.throwIfAborted()
      if (last || !RESET.has(errnoOf(error) ?? '')) throw error
      await sleep(backoffMs, undefined, { signal: options.signal })
    }
  }
}

/** The registry says that it has no space left: 507, or the storage driver's ENOSPC in a 5xx (docker-registry tells its errno, 28). */
export const isFull = ({ status, body }: HttpResponse): boolean =>
  status === 507 ||
  (status >= 500 && /no space left on device|ENOSPC|disk quota exceeded|"Err":\s*28\b/i.test(body.toString('utf8')))

/** RFC 9110 §10.2.3: seconds or a date. */
function retryAfterMs({ headers }: HttpResponse): number {
  const value = headers['retry-after']
  if (value === undefined) return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(ms, 0) : 0
}

async function once(request: HttpRequest, { timeoutMs, signal }: HttpOptions): Promise<HttpResponse> {
  const { url, method, headers, body } = request
  const { request: send } = process.getBuiltinModule(url.protocol === 'http:' ? 'node:http' : 'node:https')
  const limit = AbortSignal.timeout(timeoutMs)
  const options: RequestOptions = {
    method,
    headers: body ? { ...headers, 'content-length': body.length } : headers,
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  }
  try {
    return await new Promise<HttpResponse>((resolve, reject) => {
      const call = send(url, options, (answer) => {
        collect(answer, request.maxBytes).then(
          (bytes) => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: bytes }),
          (error) => {
            call.destroy()
            reject(error)
          },
        )
      })
      call.on('error', reject)
      call.end(body)
    })
  } catch (error) {
    signal?.throwIfAborted()
    if (limit.aborted) throw limit.reason
    throw error
  }
}

async function collect(answer: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new TooLongError(`longer than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
