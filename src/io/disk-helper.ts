import { connect } from 'node:net'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { finished } from 'node:stream/promises'
import { spawnChild, which } from './child.ts'
import { toolEnvironment } from './tool.ts'

/** Where workers/bake-disk.socket listens. */
const SOCKET = '/run/bake-disk.sock'
/** Whoever listens starts a shell. */
const ANSWER_MS = 10_000
/** From hanging up to the connection's end: what the helper does ends at once. */
const HANG_UP_MS = 30_000
/** What it says when it is asked nothing. */
const READY = 'bake-helper: ready\n'

/**
 * How the helper that is root (templates/direct/helper.sh) is had: as root it is started, a service of this machine has it listen on a socket, and sudo(8)
 * starts it for those whom it asks no password.
 */
export type HelperWay = 'root' | 'service' | 'sudo'

/** BAKE_DISK_SOCKET, or where the unit listens. */
const helperSocket = (env: NodeJS.ProcessEnv = process.env): string => env.BAKE_DISK_SOCKET || SOCKET

/** How this process may have disks changed; undefined: not at all. sudo is asked, which takes some 20 ms. */
export async function helperWay(script: string, env: NodeJS.ProcessEnv = process.env): Promise<HelperWay | undefined> {
  if (process.getuid?.() === 0) return 'root'
  if (await answers(helperSocket(env))) return 'service'
  if (which('sudo', toolEnvironment(env).PATH) === undefined) return undefined
  await using child = startHelper('sudo', script, '', false)
  return (await text(child.stdout!)) === READY ? 'sudo' : undefined
}

/** Whether a helper listens there. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  socket.setTimeout(ANSWER_MS, () => socket.destroy())
  socket.end()
  return text(socket).then(
    (said) => said === READY,
    () => false,
  )
}

/** A helper that was asked for something. */
export interface Helper {
  /** What it says is in them, and ends when it has ended. */
  output: Readable[]
  /** How its process or its connection ended. Never rejects. */
  ended: Promise<{ ok: boolean; how: string }>
  /** What it does ends at once; `ended` settles then. */
  hangUp(): void
}

/** Asks the helper: `fields` are what it reads. */
export function askHelper(way: HelperWay, script: string, fields: string[]): Helper {
  const question = fields.map((field) => `${field}\0`).join('')
  if (way === 'service') return askService(question)
  const child = startHelper(way, script, question, true)
  return {
    output: [child.stdout!, child.stderr!],
    ended: child.exited.then(({ code, signal, error }) => ({
      ok: code === 0,
      how: error?.message ?? signal ?? `exit code ${code}`,
    })),
    hangUp: () => void child.end(),
  }
}

function startHelper(way: 'root' | 'sudo', script: string, question: string, holdStdin: boolean) {
  const [command, args] = way === 'sudo' ? ['sudo', ['--non-interactive', '--', script]] : ['bash', [script]]
  // bake itself was started with sudo: the files are root's all the same.
  const { SUDO_UID: _, BAKE_DISK_USER: __, ...env } = toolEnvironment()
  return spawnChild(command, args, { env, stdin: question, holdStdin, stdout: 'pipe', stderr: 'pipe' })
}

function askService(question: string): Helper {
  const path = helperSocket()
  // Its own half stays open when the other one has ended.
  const socket = connect({ path, allowHalfOpen: true })
  socket.write(question)
  const ended = finished(socket, { writable: false }).then(
    () => ({ ok: true, how: 'the connection ended' }),
    (error: Error) => ({ ok: false, how: `${path}: ${error.message}` }),
  )
  void ended.then(() => socket.destroy())
  const hangUp = () => {
    socket.end()
    socket.setTimeout(HANG_UP_MS, () => socket.destroy())
  }
  return { output: [socket], ended, hangUp }
}
