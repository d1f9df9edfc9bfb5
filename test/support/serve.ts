import { once } from 'node:events'
import type { Server } from 'node:http'

/** Has a server listen at a port of loopback that is free. `close` ends what still hangs on it. */
export async function serve(server: Server): Promise<{ port: number; endpoint: string; close(): Promise<void> }> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    endpoint: `http://127.0.0.1:${address.port}`,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
