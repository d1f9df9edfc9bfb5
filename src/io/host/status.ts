import { setTimeout as sleep } from 'node:timers/promises'
import { timedOut } from '../../errors.ts'
import { dial, readInfo } from './dial.ts'
import type { StatusReply } from './protocol.ts'
import { hostFiles } from './state-dir.ts'

export type HostStatus = { running: false } | ({ running: true } & Omit<StatusReply, 'type'>)

/** Services end within a second, a registry's container within three. */
const STOP_DEADLINE_MS = 15_000

/** Whether a host serves `stateDir`, and how it does; starts none. */
export async function hostStatus(stateDir: string): Promise<HostStatus> {
  const info = await readInfo(hostFiles(stateDir))
  const dialled = info && (await dial(info, { type: 'status', token: info.token }))
  dialled?.socket.destroy()
  if (dialled?.answer.type !== 'status') return { running: false }
  const { type: _, ...status } = dialled.answer
  return { running: true, ...status }
}

/** Asks the host to end now and waits until it has; its jobs stay on the queue. False when there was none. Throws host_timed_out. */
export async function stopHost(stateDir: string): Promise<boolean> {
  const info = await readInfo(hostFiles(stateDir))
  const dialled = info && (await dial(info, { type: 'stop', token: info.token }))
  if (!dialled) return false
  const late = new AbortController()
  const ended = await Promise.race([
    dialled.closed.then(() => true),
    sleep(STOP_DEADLINE_MS, false, { signal: late.signal }).catch(() => false),
  ])
  late.abort()
  dialled.socket.destroy()
  if (!ended)
    throw timedOut('host_timed_out', `the host process ${info.pid} did not end within ${STOP_DEADLINE_MS / 1000} s`, {
      ids: { pid: String(info.pid) },
      next: `End it with kill -9 ${info.pid}: no job is lost.`,
    })
  return true
}
