import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import { startRegistry } from './registry.ts'
import { serve } from './serve.ts'

/** A status to answer with in the registry's place, or a connection that is reset after the first bytes. */
export type Fault = number | 'reset'

export interface FaultyRegistry extends AsyncDisposable {
  /** `localhost:<port>` */
  readonly host: string
  /** Decides about each request; undefined: the real registry answers. */
  fault: (request: { method: string; path: string }) => Fault | undefined
  /** How many requests met a fault. */
  readonly faults: number
}

/** A real registry behind a door that fails when a test says so. */
export async function startFaultyRegistry(): Promise<FaultyRegistry> {
  const registry = await startRegistry()
  const [hostname, port] = registry.host.split(':')
  const door = { fault: (() => undefined) as FaultyRegistry['fault'], faults: 0 }

  const server = createServer((request, response) => {
    const { method = '', url: path = '' } = request
    const fault = door.fault({ method, path })
    if (fault === undefined) return passOn(request, response)
    door.faults++
    if (fault === 'reset') request.once('data', () => request.socket.resetAndDestroy())
    else response.writeHead(fault, { connection: 'close' }).end('{}')
  })

  function passOn(request: IncomingMessage, response: ServerResponse) {
    // With the door's own Host header, so that upload locations lead through it again.
    const { method, url: path, headers } = request
    const call = send({ hostname, port, method, path, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    call.on('error', () => response.destroy())
    request.on('error', () => call.destroy())
    request.pipe(call)
  }

  const { port: own, close } = await serve(server)
  return Object.assign(door, {
    host: `localhost:${own}`,
    async [Symbol.asyncDispose]() {
      await close()
      await registry[Symbol.asyncDispose]()
    },
  })
}
