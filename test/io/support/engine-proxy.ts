import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export interface EngineProxy extends AsyncDisposable {
  /** For DOCKER_HOST. */
  readonly host: string
  /** Ends every connection at once, as an engine does that is killed. */
  cut(): void
}

/** A TCP door to this machine's engine that can be slammed. */
export async function startEngineProxy(socketPath = '/var/run/docker.sock'): Promise<EngineProxy> {
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const engine = connect(socketPath)
    for (const [from, to] of [
      [client, engine],
      [engine, client],
    ] as const) {
      open.add(from)
      from.on('error', () => {})
      from.once('close', () => {
        open.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const cut = () => {
    for (const socket of open) socket.destroy()
  }
  return {
    host: `tcp://127.0.0.1:${address.port}`,
    cut,
    [Symbol.asyncDispose]: async () => {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
