import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { errnoOf } from '../../errors.ts'
import { type ClientMessage, type HostInfo, type HostMessage, parseInfo, readMessages, writeMessage } from './protocol.ts'
import type { HostFiles } from './state-dir.ts'

/** A host answers within a millisecond, a busy one within a second; starting its registry's container takes longer. */
const ANSWER_TIMEOUT_MS = 15_000

export interface Dialled {
  socket: Socket
  /** The host's first answer. */
  answer: HostMessage
  /** Settles when the connection has ended: the host is gone, or was left. */
  closed: Promise<void>
  /** Called with each later message. */
  onMessage(callback: (message: HostMessage) => void): void
}

/** What host.json says; undefined when there is none, or its process is gone. */
export async function readInfo(files: HostFiles): Promise<HostInfo | undefined> {
  const info = parseInfo(await readFile(files.info, 'utf8').catch(() => ''))
  return info && isAlive(info.pid) ? info : undefined
}

/** Connects to the host of `info` and says `message`; undefined when it isn't there any more, or no host at all. */
export function dial(info: HostInfo, message: ClientMessage, signal?: AbortSignal): Promise<Dialled | undefined> {
  signal?.throwIfAborted()
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: info.port })
    const timer = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS)
    const onAbort = () => {
      socket.destroy()
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    let answered = false
    // More may come in one piece with the answer, before anybody listens.
    const early: HostMessage[] = []
    let onMessage = (message: HostMessage): unknown => early.push(message)
    const closed = new Promise<void>((done) => {
      socket.once('close', () => {
        clearTimeout(timer)
        resolve(undefined)
        done()
      })
    })
    socket.on('error', () => {})
    socket.setNoDelay(true)
    socket.once('connect', () => writeMessage(socket, message))
    readMessages<HostMessage>(socket, (answer) => {
      if (answered) {
        onMessage(answer)
        return
      }
      answered = true
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      resolve({
        socket,
        answer,
        closed,
        onMessage(callback) {
          onMessage = callback
          early.forEach(callback)
        },
      })
    })
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) === 'EPERM'
  }
}
