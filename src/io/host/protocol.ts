import type { Socket } from 'node:net'
import { BakeError, type ErrorKind, type ExitCode, messageOf, unavailable } from '../../errors.ts'

export type Role = 'client' | 'worker'

/** host.json: where the running host is. Written when it is ready, for its owner's eyes only (0600). */
export interface HostInfo {
  pid: number
  /** Of the control connection, on 127.0.0.1. */
  port: number
  token: string
  queueEndpoint: string
  /** `localhost:PORT`, when it has a registry. */
  registry?: string
  version: string
  root: string
}

export interface Hello {
  type: 'hello'
  token: string
  role: Role
  pid: number
  version: string
  root: string
  needsRegistry: boolean
  /** A client's secrets for the host's own worker: see handover.ts. */
  variables?: Record<string, string>
  /** What it will ask for, most likely. */
  ahead?: AheadCommit
}

/** A commit that the host's own worker may fetch while the client still finds out what is to be built. Nothing depends on it. */
export interface AheadCommit {
  /** As jobs name it. */
  repository: string
  commit: string
}

/** One JSON value per line, both ways. The first line of a connection tells the token and what it is for. */
export type ClientMessage = Hello | { type: 'status' | 'stop'; token: string }

export interface StatusReply {
  type: 'status'
  pid: number
  version: string
  root: string
  queueEndpoint: string
  registry?: string
  clients: { role: Role; pid: number; version: string }[]
  /** Its own worker: not started, started, or busy with a job. */
  worker: 'none' | 'idle' | 'busy'
  /** Jobs that are not finished. */
  pending: number
}

export type HostMessage =
  | { type: 'welcome'; pid: number; queueEndpoint: string; registry?: string }
  | { type: 'refused'; error: WireError }
  /** It is about to end; the connection closes when it has. */
  | { type: 'ending' }
  | { type: 'notice'; text: string }
  | StatusReply

/** A BakeError between processes. */
export interface WireError {
  kind: ErrorKind
  exit: ExitCode
  code: string
  message: string
  next?: string
  ids: Record<string, string>
}

export function toWire(error: unknown): WireError {
  const known = error instanceof BakeError ? error : unavailable('host_failed', `the host process failed: ${messageOf(error)}`)
  const { kind, exit, code, message, next, ids } = known
  return { kind, exit, code, message, ...(next !== undefined && { next }), ids }
}

export const fromWire = ({ kind, exit, code, message, next, ids }: WireError): BakeError =>
  new BakeError(kind, exit, code, message, { ...(next !== undefined && { next }), ids })

/** host.json's text as HostInfo; undefined when it is none (half written by a full disk, of another time). */
export function parseInfo(text: string): HostInfo | undefined {
  try {
    const info = JSON.parse(text) as Partial<HostInfo> | null
    const complete = Number.isInteger(info?.pid) && Number.isInteger(info?.port) && typeof info?.token === 'string'
    return complete && typeof info.queueEndpoint === 'string' ? (info as HostInfo) : undefined
  } catch {
    return undefined
  }
}

/** Any message fits, also a hello with all the variables that execve(2) lets a process have (a quarter of an 8 MiB stack); more is no message of ours. */
const MAX_LINE_CHARACTERS = 4 * 1024 * 1024

/** Calls `onMessage` with each line's JSON; what is no JSON or too long ends the connection. */
export function readMessages<T>(socket: Socket, onMessage: (message: T) => void): void {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    try {
      if (rest.length > MAX_LINE_CHARACTERS) throw new RangeError('line too long')
      for (const line of lines) onMessage(JSON.parse(line) as T)
    } catch {
      socket.destroy()
    }
  })
}

export const writeMessage = (socket: Socket, message: ClientMessage | HostMessage): void => {
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`)
}
