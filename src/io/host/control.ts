import { randomBytes, timingSafeEqual } from 'node:crypto'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type ClientMessage, type Hello, type HostMessage, readMessages, toWire, writeMessage } from './protocol.ts'

/** Who connects says what it wants at once. */
const FIRST_LINE_TIMEOUT_MS = 5_000

export interface ControlHandlers {
  /** The answer to a hello; `welcome` makes it a client until its connection ends. */
  hello(hello: Hello): Promise<HostMessage>
  /** A client's connection ended. */
  left(): void
  status(): HostMessage
  stop(): void
}

export interface Control {
  readonly port: number
  readonly token: string
  clients(): Hello[]
  tellAll(text: string): void
  /** No new connections. Those that wait for the end keep waiting. */
  close(): void
  /** Ends all connections: the very last thing a host does. */
  end(): void
}

/** The host's door, on 127.0.0.1: knows its clients by their open connections, so one that dies has left. */
export async function openControl(handlers: ControlHandlers): Promise<Control> {
  const token = randomBytes(32).toString('hex')
  const clients = new Map<Socket, Hello>()
  const sockets = new Set<Socket>()

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.unref()
    socket.setTimeout(FIRST_LINE_TIMEOUT_MS, () => socket.destroy())
    socket.on('error', () => {})
    socket.once('close', () => {
      sockets.delete(socket)
      const hello = clients.get(socket)
      clients.delete(socket)
      if (hello) handlers.left()
    })
    readMessages<ClientMessage>(socket, (message) => {
      if (!sameToken(message.token, token)) {
        socket.destroy()
        return
      }
      socket.setTimeout(0)
      receive(socket, message)
    })
  })

  function receive(socket: Socket, message: ClientMessage): void {
    if (message.type === 'status') writeMessage(socket, handlers.status())
    if (message.type === 'stop') {
      writeMessage(socket, { type: 'ending' })
      handlers.stop()
    }
    if (message.type !== 'hello' || clients.has(socket)) return
    // Counted from now on: a host must not end while it is about to welcome somebody.
    const { variables: _, ahead: __, ...client } = message
    clients.set(socket, client)
    const refuse = (error: unknown): HostMessage => ({ type: 'refused', error: toWire(error) })
    handlers
      .hello(message)
      .catch(refuse)
      .then((answer) => {
        if (answer.type !== 'welcome' && clients.delete(socket)) handlers.left()
        writeMessage(socket, answer)
      })
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    token,
    clients: () => [...clients.values()],
    tellAll(text) {
      for (const socket of clients.keys()) writeMessage(socket, { type: 'notice', text })
    },
    close: () => void server.close(),
    end() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

function sameToken(given: unknown, token: string): boolean {
  const bytes = Buffer.from(String(given))
  return bytes.length === token.length && timingSafeEqual(bytes, Buffer.from(token))
}
