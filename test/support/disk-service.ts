import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toolEnvironment } from '../../src/io/tool.ts'

export interface DiskService extends AsyncDisposable {
  socket: string
  /** Every helper that was asked has ended. */
  idle(): Promise<void>
}

/** What workers/bake-disk.socket has systemd do: each connection is the stdin and stdout of a helper of its own, which acts for `user`. Files that it makes are nobody else's unless it says so. */
export async function startDiskService(helper: string, user: string, prefix: string[] = []): Promise<DiskService> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-disk-service-'))
  await chmod(dir, 0o755)
  const socket = join(dir, 'socket')
  const running = new Set<ChildProcess>()
  const [command = '', ...args] = [...prefix, 'sh', '-c', 'umask 077; exec "$0"', helper]
  const server = createServer({ pauseOnConnect: true }, (connection) => {
    const child = spawn(command, args, {
      env: { ...toolEnvironment(), BAKE_DISK_USER: user },
      stdio: [connection, connection, connection],
    })
    running.add(child)
    child.once('close', () => running.delete(child))
    // It is the child's from now on.
    connection.destroy()
  })
  server.listen(socket)
  await once(server, 'listening')
  await chmod(socket, 0o666)
  const idle = async () => {
    await Promise.all([...running].map((child) => once(child, 'close')))
  }
  return {
    socket,
    idle,
    async [Symbol.asyncDispose]() {
      server.close()
      await idle()
      await rm(dir, { recursive: true })
    },
  }
}
