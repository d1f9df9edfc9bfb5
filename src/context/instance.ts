import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { LifecycleHook, ScalingGroup } from '../io/autoscaling.ts'
import { InstanceMetadata, type InstanceNotice } from '../io/imds.ts'
import type { Departure } from '../jobs/departure.ts'
import { Protection } from '../jobs/protection.ts'
import type { WorkerDocument } from '../jobs/records.ts'
import type { Settings } from './settings.ts'

export interface InstanceOptions {
  region: string
  settings: Pick<Settings, 'lifecycleHook' | 'scaleInProtection'>
  departure: Departure
  /** This worker's name. */
  name: string
  /** The fleet's live members: others on this instance have a say in when it may go. */
  members: () => Promise<WorkerDocument[]>
  onId: (instance: string) => void
  onProblem: (text: string) => void
}

/** The EC2 instance under a worker: what it announces, and what its group is told. Inert where there is none. */
export interface Instance extends AsyncDisposable {
  /** Resolves when it is known what this runs on and whether that is announced to go: within a second where there is no metadata service, 5 s at most. */
  readonly known: Promise<void>
  /** To call around each job: protects the instance from scale-in first, where it is in a group. Never throws by itself. */
  during<T>(job: () => Promise<T>): Promise<T>
}

/** AWS recommends looking for a spot interruption every 5 seconds. */
const POLL_MS = 5_000
/** For handing back, the queue's last answers (20 s at most) and the end of the processes, before EC2 takes the instance. */
const MARGIN_MS = 25_000
/** Without a hook a group terminates at once, and only the operating system's shutdown gives a moment. */
const NO_HOOK_MS = 30_000
/** The metadata service of an instance that is just booting may be late; after that there is none. */
const PROBE_PAUSES_MS = [0, 10_000, 30_000]

/** A worker starts without knowing, rather than late: Auto Scaling may be out of reach, and is tried again and again. */
const KNOWN_MS = 5_000

export const noInstance: Instance = { known: Promise.resolve(), during: (job) => job(), async [Symbol.asyncDispose]() {} }

/** Begins to look in the background. */
export function openInstance(options: InstanceOptions): Instance {
  const metadata = InstanceMetadata.of()
  return metadata === undefined ? noInstance : new Ec2Instance(metadata, options)
}

class Ec2Instance implements Instance {
  readonly #metadata: InstanceMetadata
  readonly #options: InstanceOptions
  readonly #over = new AbortController()
  readonly known: Promise<void>
  readonly #watching: Promise<void>
  readonly #seen = new Set<InstanceNotice['kind']>()
  #id: string | undefined
  #group: ScalingGroup | undefined
  #protection: Protection | undefined
  /** Set once the group wants to terminate the instance and waits for our word. */
  #hook: LifecycleHook | undefined

  constructor(metadata: InstanceMetadata, options: InstanceOptions) {
    this.#metadata = metadata
    this.#options = options
    const first = Promise.withResolvers<void>()
    this.known = first.promise
    setTimeout(first.resolve, KNOWN_MS).unref()
    this.#watching = this.#watch(first.resolve)
  }

  async during<T>(job: () => Promise<T>): Promise<T> {
    const protection = this.#protection
    if (protection === undefined) return job()
    await protection.hold()
    try {
      return await job()
    } finally {
      protection.release()
    }
  }

  /** To call when this worker has said in the ledger that it ended, so that the last worker of an instance finds the others gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await this.#watching
    const hook = this.#hook
    // What is being terminated can't be protected any more.
    if (hook === undefined) await this.#protection?.[Symbol.asyncDispose]()
    else await this.#complete(hook)
    this.#group?.[Symbol.dispose]()
  }

  async #watch(known: () => void): Promise<void> {
    if (!(await this.#identify(known))) return known()
    let troubled = false
    while (!this.#over.signal.aborted) {
      try {
        for (const notice of await this.#metadata.notices()) await this.#heed(notice)
        troubled = false
      } catch (error) {
        if (!troubled) this.#options.onProblem(messageOf(error))
        troubled = true
      }
      known()
      await sleep(POLL_MS, undefined, { signal: this.#over.signal, ref: false }).catch(() => {})
    }
  }

  /** False: this is no instance. */
  async #identify(known: () => void): Promise<boolean> {
    const { region, settings, onId, onProblem } = this.#options
    for (const pauseMs of PROBE_PAUSES_MS) {
      await sleep(pauseMs, undefined, { signal: this.#over.signal, ref: false }).catch(() => {})
      if (this.#over.signal.aborted) return false
      const identity = await this.#metadata.identity().catch(() => undefined)
      if (identity === undefined) {
        known()
        continue
      }
      this.#id = identity.instance
      onId(identity.instance)
      try {
        if (!(await this.#metadata.inGroup())) return true
        const { openScalingGroup } = await import('../io/autoscaling.ts')
        this.#group = await openScalingGroup(identity.instance, identity.region ?? region)
      } catch (error) {
        onProblem(`which auto-scaling group this instance is in isn't known: ${messageOf(error)}`)
      }
      if (this.#group !== undefined && settings.scaleInProtection)
        this.#protection = new Protection({ set: (on) => this.#protect(on), onProblem })
      return true
    }
    return false
  }

  async #protect(on: boolean): Promise<void> {
    if (this.#seen.has('autoscaling')) return
    // A busy neighbour removes it when it is idle itself.
    if (!on && (await this.#neighbours()).some(({ running }) => running.length > 0)) return
    await this.#group?.protect(on)
  }

  async #heed(notice: InstanceNotice): Promise<void> {
    if (this.#seen.has(notice.kind)) return
    this.#seen.add(notice.kind)
    const { departure } = this.#options
    if (notice.kind === 'spot') {
      const seconds = Math.max(0, Math.round(notice.inMs / 1000))
      departure.leave(`spot interruption: EC2 will ${notice.action} this instance in ${seconds} s`, notice.inMs - MARGIN_MS)
      return
    }
    const why = 'the auto-scaling group takes this instance out of service'
    // At once: nothing new is to be taken while the group is asked.
    departure.leave(why)
    const hook = await this.#findHook()
    if (hook === undefined) return departure.leave(`${why}, and has no lifecycle hook`, NO_HOOK_MS)
    this.#hook = hook
    departure.leave(`${why}; hook ${hook.name}`, Math.max(0, hook.globalSeconds * 1000 - MARGIN_MS))
    void this.#keepAlive(hook)
  }

  async #findHook(): Promise<LifecycleHook | undefined> {
    const { settings, onProblem } = this.#options
    if (settings.lifecycleHook === false) return undefined
    try {
      return await this.#group?.hook(settings.lifecycleHook)
    } catch (error) {
      onProblem(messageOf(error))
      return undefined
    }
  }

  /** The group waits one heartbeat at a time; when they fail there is what is left of the last good one. */
  async #keepAlive(hook: LifecycleHook): Promise<void> {
    const { departure, onProblem } = this.#options
    const heartbeatMs = hook.heartbeatSeconds * 1000
    const everyMs = heartbeatMs / 4
    for (let lastMs = performance.now(); !this.#over.signal.aborted; ) {
      await sleep(everyMs, undefined, { signal: this.#over.signal, ref: false }).catch(() => {})
      if (this.#over.signal.aborted) return
      try {
        await this.#group?.beat(hook)
        lastMs = performance.now()
      } catch (error) {
        onProblem(messageOf(error))
        const leftMs = lastMs + heartbeatMs - performance.now() - Math.min(MARGIN_MS, everyMs)
        if (leftMs < everyMs) departure.leave('the auto-scaling group gives no more time', leftMs)
      }
    }
  }

  async #complete(hook: LifecycleHook): Promise<void> {
    const others = await this.#neighbours()
    if (others.length > 0) return
    await this.#group?.complete(hook).catch((error: unknown) => this.#options.onProblem(messageOf(error)))
  }

  /** Other live workers on this instance. */
  async #neighbours(): Promise<WorkerDocument[]> {
    const live = await this.#options.members().catch(() => [])
    return live.filter(({ name, instance }) => name !== this.#options.name && instance === this.#id)
  }
}
