import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { waitFor } from '../../src/wait.ts'

export interface HookCall {
  path: string
  headers: IncomingHttpHeaders
  body: string
}

export interface HookServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly calls: HookCall[]
  /** Waits for that many calls. */
  called(count: number): Promise<HookCall[]>
}

/** A real server for webhooks. `answer` gets each call's number, from 0; without it everything is answered 200. One that doesn't end the response hangs. */
export async function startHookServer(answer?: (call: number, response: ServerResponse) => void): Promise<HookServer> {
  const calls: HookCall[] = []
  const server = createServer(async (request, response) => {
    const body = (await buffer(request)).toString('utf8')
    calls.push({ path: request.url ?? '', headers: request.headers, body })
    if (answer) answer(calls.length - 1, response)
    else response.end('ok')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    called: (count) =>
      waitFor(() => (calls.length >= count ? calls : undefined), {
        what: `${count} calls of the webhook`,
        deadlineMs: 60_000,
        intervalMs: 50,
      }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
