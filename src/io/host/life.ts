import { type BakeError, unavailable } from '../../errors.ts'
import type { Control, ControlHandlers } from './control.ts'
import { takeVariables } from './handover.ts'
import { stateDirInUse } from './ports.ts'
import { type AheadCommit, type Hello, type HostMessage, toWire } from './protocol.ts'
import type { HostServices } from './services.ts'
import { type HostWorker, WorkerKeeper } from './worker-keeper.ts'

export interface HostOptions {
  stateDir: string
  /** The project's root directory; a state directory serves one project. */
  root: string
  version: string
  /** Start the registry at once; a client that needs it later gets it too. */
  needsRegistry: boolean
  /** Starts the worker that takes jobs when nobody else does. */
  startWorker(services: { queueEndpoint: string; registry: string | undefined }): Promise<HostWorker>
  /** How long it stays after the last client and the last job; BAKE_HOST_LINGER_MS, or 10 s. */
  lingerMs?: number
  /** False: never starts a worker; BAKE_DEFAULT_WORKER=0 says the same. */
  defaultWorker?: boolean
}

const LINGER_MS = 10_000
/** The client that started this host connects within milliseconds, or died meanwhile. */
const FIRST_CLIENT_MS = 10_000
/** A crashed host's jobs go on even if the client that started this one died before it connected. */
const OWN_START_MS = 1_000

/** 0 is a time, too; what is no number of milliseconds counts for nothing. */
export function lingerMs(variable: string | undefined): number {
  const asked = variable === undefined || variable.trim() === '' ? Number.NaN : Number(variable)
  return asked >= 0 ? asked : LINGER_MS
}

const isAhead = (given: unknown): given is AheadCommit =>
  typeof given === 'object' &&
  given !== null &&
  ['repository', 'commit'].every((name) => typeof Reflect.get(given, name) === 'string')

/** When to run a worker, whom to welcome, and when it is over. */
export class HostLife implements ControlHandlers {
  readonly root: string
  /** Settles when there is nothing left to do, or it was told to end. */
  readonly ended: Promise<void>
  readonly #options: HostOptions
  readonly #log: (text: string) => void
  readonly #lingerMs: number
  readonly #keeper: WorkerKeeper
  readonly #worker: boolean
  readonly #startedAt = performance.now()
  #end: () => void = () => {}
  #services: HostServices | undefined
  #control: Control | undefined
  #greeted = false
  #quietSince: number | undefined
  #draining = false
  #over = false

  constructor(options: HostOptions, tell: { log: (text: string) => void; problem: (text: string) => void }) {
    this.#options = options
    this.root = options.root
    this.#log = tell.log
    this.#lingerMs = options.lingerMs ?? lingerMs(process.env.BAKE_HOST_LINGER_MS)
    this.#worker = options.defaultWorker ?? process.env.BAKE_DEFAULT_WORKER !== '0'
    this.#keeper = new WorkerKeeper(() => {
      const { queueEndpoint, registry } = this.#services!
      return options.startWorker({ queueEndpoint, registry: registry() })
    }, tell.problem)
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  open(services: HostServices, control: Control): void {
    this.#services = services
    this.#control = control
    const tick = setInterval(() => this.#consider(), Math.min(Math.max(this.#lingerMs / 10, 20), 500))
    this.ended.then(() => clearInterval(tick))
    if (this.#over) this.#end()
  }

  async hello(hello: Hello): Promise<HostMessage> {
    if (this.#over) return { type: 'ending' }
    if (hello.root !== this.root) return { type: 'refused', error: toWire(stateDirInUse(this.#options.stateDir, this.root)) }
    if (hello.version !== this.#options.version) {
      const others = this.#control!.clients().length - 1
      if (others > 0 || this.#unfinished()) return { type: 'refused', error: toWire(this.#skew(hello, others)) }
      this.#log(`making way for bake ${hello.version}`)
      this.#finish()
      return { type: 'ending' }
    }
    const services = this.#services!
    try {
      if (hello.needsRegistry) await services.needRegistry()
    } catch (error) {
      return { type: 'refused', error: toWire(error) }
    }
    this.#greeted = true
    if (hello.role === 'client') takeVariables(hello.variables, process.env)
    if (isAhead(hello.ahead)) this.#keeper.ahead(hello.ahead)
    // Starting a worker loads much: welcome first.
    setImmediate(() => this.#consider())
    const registry = services.registry()
    return {
      type: 'welcome',
      pid: process.pid,
      queueEndpoint: services.queueEndpoint,
      ...(registry !== undefined && { registry }),
    }
  }

  left(): void {
    this.#consider()
  }

  status(): HostMessage {
    const { queue, queueEndpoint, registry } = this.#services!
    const at = registry()
    return {
      type: 'status',
      pid: process.pid,
      version: this.#options.version,
      root: this.root,
      queueEndpoint,
      ...(at !== undefined && { registry: at }),
      clients: this.#control!.clients().map(({ role, pid, version }) => ({ role, pid, version })),
      worker: this.#keeper.state,
      pending: queue.pending(),
    }
  }

  /** Ends now; its jobs stay on the queue. */
  stop(): void {
    this.#keeper.kill().then(() => this.#finish())
  }

  /** Ends without a word to the worker, which would write of its end into a state directory that isn't its own any more. */
  abandon(): void {
    this.#finish()
  }

  signalled(): void {
    if (this.#draining) {
      this.stop()
      return
    }
    this.#draining = true
    this.#log('finishing the running jobs, then ending')
    this.#keeper.drain().then(() => this.#finish())
  }

  /** Starts or stops the worker by who is there, and ends when it has been quiet for long enough. Called on every change and now and then. */
  #consider(): void {
    if (this.#over || this.#draining || !this.#services || !this.#control) return
    const now = performance.now()
    const clients = this.#control.clients()
    const pending = this.#services.queue.pending()
    const known = this.#greeted || now - this.#startedAt > OWN_START_MS
    const needed = clients.length > 0 || pending > 0
    this.#keeper.want(this.#worker && known && needed && !clients.some(({ role }) => role === 'worker'))
    // Without a worker of its own nothing would ever finish these jobs: the next host has them.
    if (clients.length > 0 || this.#keeper.state === 'busy' || (pending > 0 && this.#worker)) this.#quietSince = undefined
    else this.#quietSince ??= now
    const patience = this.#greeted ? this.#lingerMs : Math.max(this.#lingerMs, FIRST_CLIENT_MS)
    if (this.#quietSince !== undefined && now - this.#quietSince >= patience) {
      this.#over = true
      this.#keeper.drain().then(() => this.#finish())
    }
  }

  #unfinished(): boolean {
    return this.#services!.queue.pending() > 0 || this.#keeper.state === 'busy'
  }

  #finish(): void {
    this.#over = true
    this.#end()
  }

  #skew(hello: Hello, others: number): BakeError {
    const doing = this.#unfinished() ? 'has jobs to finish' : `serves ${others} other command${others === 1 ? '' : 's'}`
    const ids = { host_version: this.#options.version, version: hello.version, pid: String(process.pid) }
    return unavailable(
      'host_version',
      `bake ${this.#options.version} runs the queue of this project and ${doing}; this is bake ${hello.version}`,
      {
        ids,
        next: `Use bake ${this.#options.version}, or wait until its work is done and run the command again.`,
      },
    )
  }
}
