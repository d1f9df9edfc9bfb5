import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { unavailable } from '../errors.ts'

/** sockaddr_un.sun_path holds 108 bytes with its end (unix(7)); 104 on macOS. */
const LONGEST_PATH_BYTES = 103

/**
 * Asks a running QEMU for one thing (https://www.qemu.org/docs/master/interop/qmp-spec.html): its answer's `return`. Throws qmp_failed (exit 4), and what
 * connecting to the socket throws: ENOENT and ECONNREFUSED once the machine is off.
 */
export async function askQemu(socketPath: string, execute: string, args: object = {}): Promise<unknown> {
  const socket = await connected(socketPath)
  try {
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
    const answer = async (): Promise<Record<string, unknown>> => {
      for (;;) {
        const { value, done } = await lines.next()
        if (done) throw unavailable('qmp_failed', `QEMU closed its control socket before it answered to ${execute}`)
        const message = JSON.parse(value) as Record<string, unknown>
        if (!('event' in message)) return message
      }
    }
    await answer()
    for (const command of [{ execute: 'qmp_capabilities' }, { execute, arguments: args }]) {
      socket.write(`${JSON.stringify(command)}\n`)
      const said = await answer()
      if ('error' in said) throw unavailable('qmp_failed', `QEMU refused ${command.execute}: ${JSON.stringify(said.error)}`)
      if (command.execute === execute) return said.return
    }
    return undefined
  } finally {
    socket.destroy()
  }
}

async function connected(path: string): Promise<Socket> {
  if (Buffer.byteLength(path) <= LONGEST_PATH_BYTES) return established(connect(path))
  // Linux: a directory has a short name while it is open.
  const dir = await open(dirname(path))
  try {
    return await established(connect(`/proc/self/fd/${dir.fd}/${basename(path)}`))
  } finally {
    await dir.close()
  }
}

async function established(socket: Socket): Promise<Socket> {
  await once(socket, 'connect')
  // It ends when the machine does.
  socket.on('error', () => {})
  return socket
}
