import type { IncomingMessage, ServerResponse } from 'node:http'
import { errnoOf, messageOf, refused, unavailable } from '../errors.ts'

export interface StatusAnswer {
  status: number
  /** A media type. */
  type: string
  body: string
}

export interface StatusServer extends AsyncDisposable {
  /** `http://HOST:PORT`, with the port it really has. */
  readonly url: string
}

/** A scraper that says nothing is no reader of ours. */
const REQUEST_TIMEOUT_MS = 10_000

/**
 * Serves `routes` (path → answer) at `HOST:PORT`, `[::1]:PORT` or `:PORT` (every address), without a password: give it a loopback or a private
 * address. It keeps no process alive. Throws bad_setting (exit 2), port_taken or listen_denied (exit 4).
 */
export async function serveStatus(
  listen: string,
  routes: Readonly<Record<string, () => Promise<StatusAnswer>>>,
): Promise<StatusServer> {
  const { host, port } = parseListen(listen)
  const { createServer } = await import('node:http')
  const server = createServer((request, response) => void answer(request, response, routes))
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(listen, error)))
    server.listen({ port, host }, resolve)
  })
  const at = server.address()
  const bound = typeof at === 'object' && at !== null ? at : { address: '', port }
  return {
    url: `http://${bound.address.includes(':') ? `[${bound.address}]` : bound.address}:${bound.port}`,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  routes: Readonly<Record<string, () => Promise<StatusAnswer>>>,
): Promise<void> {
  const path = (request.url ?? '').split('?')[0] ?? ''
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  const { status, type, body } =
    request.method !== 'GET' && request.method !== 'HEAD'
      ? plain(405, 'GET only')
      : route === undefined
        ? plain(404, `there is ${Object.keys(routes).join(' and ')}`)
        : await route().catch((error: unknown) => plain(500, messageOf(error)))
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
}

const plain = (status: number, text: string): StatusAnswer => ({ status, type: 'text/plain; charset=utf-8', body: `${text}\n` })

function parseListen(listen: string): { host: string | undefined; port: number } {
  const [, host = '', digits = ''] = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]*):(\d{1,5})$/.exec(listen) ?? []
  const port = Number(digits)
  if (digits === '' || port > 65_535)
    throw refused('bad_setting', `${JSON.stringify(listen)} is no address to listen at`, {
      next: 'write HOST:PORT, like 127.0.0.1:9464',
    })
  return { host: host === '' ? undefined : host.replace(/^\[|\]$/g, ''), port }
}

function cannotListen(listen: string, cause: Error) {
  const errno = errnoOf(cause)
  const ids = { listen }
  if (errno === 'EADDRINUSE')
    return unavailable('port_taken', `something listens at ${listen} already`, {
      next: 'give each worker of a machine another --listen',
      ids,
      cause,
    })
  return unavailable('listen_denied', `can't listen at ${listen}: ${cause.message}`, {
    next: 'give --listen an address of this machine and a port over 1023',
    ids,
    cause,
  })
}
