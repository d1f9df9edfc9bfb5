/**
 * Carries TCP connections for test/support/forwarder.ts. A process of its own, so that it goes on while a test or a benchmark waits in spawnSync.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ForwardRequest, Shape } from './forwarder.ts'

/** A timer that is late must not cost throughput: this much of the past can be caught up with. */
const CATCH_UP_MS = 5

/** One direction of a link: bytes leave one after the other at its rate, whatever connection they are of. */
class Line {
  readonly #bytesPerMs: number
  readonly latencyMs: number
  #freeAt = 0

  constructor({ megabitsPerSecond, latencyMs }: Shape) {
    this.#bytesPerMs = (megabitsPerSecond * 1_000_000) / 8 / 1000
    this.latencyMs = latencyMs
  }

  /** When the last of `bytes` has left, on performance.now()'s clock. */
  take(bytes: number): number {
    this.#freeAt = Math.max(this.#freeAt, performance.now() - CATCH_UP_MS) + bytes / this.#bytesPerMs
    return this.#freeAt
  }
}

const until = async (at: number): Promise<void> => {
  const ms = at - performance.now()
  if (ms > 0.5) await sleep(ms)
}

async function carry(from: Socket, to: Socket, line: Line | undefined): Promise<void> {
  if (!line) return void from.pipe(to)
  let arriving: Promise<unknown> = Promise.resolve()
  try {
    for await (const chunk of from) {
      const left = line.take((chunk as Buffer).length)
      arriving = arriving.then(() => until(left + line.latencyMs)).then(() => to.writable && to.write(chunk as Buffer))
      await until(left)
      if (to.writableNeedDrain) await Promise.race([once(to, 'drain'), once(to, 'close')]).catch(() => {})
    }
    await arriving.then(() => until(performance.now() + line.latencyMs))
    to.end()
  } catch {
    to.destroy()
  }
}

async function open(client: Socket, to: number, lines: [Line, Line] | undefined): Promise<void> {
  client.on('error', () => {})
  // The handshake's round trip.
  if (lines) await sleep(2 * lines[0].latencyMs)
  const server = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
  server.on('error', () => client.destroy())
  client.once('close', () => server.destroy())
  server.once('close', () => (lines ? undefined : client.destroy()))
  void carry(client, server, lines?.[0])
  void carry(server, client, lines?.[1])
}

/** A listening socket belongs to the network namespace that it was made in, whoever accepts from it: a helper makes it there and hands it over. */
async function listenIn(netns: string, port: number): Promise<Server> {
  const code = `const s = require('node:net').createServer(); s.listen(${port}, '127.0.0.1', () => process.send({}, s))`
  const command = ['--pdeathsig', 'KILL', '--', 'nsenter', `--net=${netns}`, '--', process.execPath, '-e', code]
  const helper = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  const ended = once(helper, 'exit')
  const failed = ended.then(() => Promise.reject(new Error(`can't listen on port ${port} of ${netns}`)))
  const [, server] = await Promise.race([once(helper, 'message'), failed])
  failed.catch(() => {})
  // As long as it lives it would take connections too.
  helper.kill('SIGKILL')
  await ended
  return server as Server
}

async function listenHere(port: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

process.on('message', async ({ id, netns, port, to, shape }: ForwardRequest) => {
  try {
    const server = netns === undefined ? await listenHere(port) : await listenIn(netns, port)
    const lines: [Line, Line] | undefined = shape && [new Line(shape), new Line(shape)]
    server.on('connection', (client) => void open(client, to, lines))
    const address = server.address()
    process.send?.({ id, port: typeof address === 'object' && address !== null ? address.port : port })
  } catch (error) {
    process.send?.({ id, error: String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
process.send?.({ id: 0 })
