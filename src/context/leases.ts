import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { Lease } from '../image/world.ts'
import { Heartbeat } from '../jobs/heartbeat.ts'
import type { TellWorker } from '../jobs/worker-events.ts'
import { keys } from '../names.ts'
import type { Project } from './project.ts'

interface Identity {
  name: string
  dir: string
}

const RENEW_RETRY_MS = 1_000

/** A worker's leases, one after the other: when one is lost (a pause, a ledger out of reach) what ran under it is given up, and a new incarnation begins. */
export class Leases implements AsyncDisposable {
  current!: Lease
  #heartbeat: Heartbeat | undefined
  readonly #ended = new AbortController()

  static async open(project: Project, me: Identity, leaseMs: number, tell: TellWorker): Promise<Leases> {
    const leases = new Leases()
    await leases.#begin(project, me, leaseMs, tell)
    return leases
  }

  /** Milliseconds since the last good heartbeat was sent. */
  get ageMs(): number {
    return this.#heartbeat?.ageMs ?? Number.POSITIVE_INFINITY
  }

  async #begin(project: Project, me: Identity, leaseMs: number, tell: TellWorker): Promise<void> {
    const owner = `${me.name}.${randomBytes(8).toString('hex')}`
    const heartbeat = new Heartbeat(project.ledger, owner, { leaseMs })
    await heartbeat.start()
    await writeFile(join(me.dir, 'owner'), owner)
    this.#heartbeat = heartbeat
    this.current = { owner, lost: heartbeat.lost, check: () => heartbeat.check() }
    tell({ type: 'lease', owner })
    const renew = async () => {
      tell({ type: 'lease-lost', owner, text: messageOf(heartbeat.lost.reason) })
      while (!this.#ended.signal.aborted) {
        try {
          return await this.#begin(project, me, leaseMs, tell)
        } catch (error) {
          tell({ type: 'problem', text: `no new lease: ${messageOf(error)}` })
          await sleep(RENEW_RETRY_MS, undefined, { signal: this.#ended.signal }).catch(() => {})
        }
      }
    }
    heartbeat.lost.addEventListener('abort', () => void renew(), { once: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort()
    await this.#heartbeat?.stop()
  }
}

/** Under the lock of a worker's name its earlier incarnation is dead for certain: nobody needs to wait for its lease to run out. */
export async function buryPredecessor(project: Project, dir: string): Promise<void> {
  const before = await readFile(join(dir, 'owner'), 'utf8').catch(() => '')
  if (before !== '') await project.ledger.put(keys.grave(before.trim()), { version: 1, at: Date.now() })
}
