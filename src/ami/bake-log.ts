import type { MachineEvent, StoryEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'
import { LogWriter } from '../jobs/logs.ts'
import { Redactor } from '../jobs/redact.ts'
import { keys } from '../names.ts'
import { PhaseSteps } from './steps.ts'

/** A live view redraws about this often. */
const LEAST_FLUSH_MS = 100

export interface BakeLog extends AsyncDisposable {
  tell(event: MachineEvent): void
  hide(secrets: Iterable<string>): void
  /** Phases that ended, in order. */
  readonly phases: { phase: string; seconds: number }[]
  redact(text: string): string
}

interface LogWorld {
  ledger: Ledger
  pollMs: number
  /** Told what the ledger could not take. */
  onIncomplete: (text: string) => void
}

/** The log of one bake, kept as a build's log is: `bake logs` shows it. */
export function openBakeLog(world: LogWorld, build: string, claim: number): BakeLog {
  const log = new MachineLog(world, build, claim)
  const bake = log.ofBake()
  return {
    ...bake,
    tell(event) {
      log.tell(event)
      bake.tell(event)
    },
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  }
}

/** The log `n` of a build, for machine events and for those of a job. */
export class MachineLog implements AsyncDisposable {
  readonly prefix: string
  readonly #build: string
  readonly #redactor = new Redactor([])
  readonly #log: LogWriter
  readonly #steps = new PhaseSteps()
  readonly #onIncomplete: LogWorld['onIncomplete']
  #closed: Promise<void> | undefined

  constructor({ ledger, pollMs, onIncomplete }: LogWorld, build: string, n: number) {
    this.prefix = keys.log(build, n)
    this.#build = build
    this.#log = new LogWriter(ledger, this.prefix, { redact: this.#redactor, flushMs: Math.max(LEAST_FLUSH_MS, pollMs) })
    this.#onIncomplete = onIncomplete
  }

  readonly story = (event: StoryEvent): void => void this.#log.write(event)

  readonly tell = (event: MachineEvent): void => {
    for (const each of this.#steps.of(event)) this.story(each)
  }

  readonly redact = (text: string): string => this.#redactor.text(text)

  /** A bake's view of it, which is told here already: it counts phases, and hides secrets from all that follows. */
  ofBake(): BakeLog {
    const phases: BakeLog['phases'] = []
    return {
      phases,
      hide: (secrets) => this.#redactor.add(secrets),
      redact: this.redact,
      tell(event) {
        if (event.type === 'phase' && event.state === 'done') phases.push({ phase: event.phase, seconds: event.seconds ?? 0 })
      },
      [Symbol.asyncDispose]: async () => {},
    }
  }

  /** Stores all that was told, and that it was all: before a record says that the bake has ended, because whoever follows it then reads what there is. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.#log.close()
    if (this.#log.incomplete !== undefined) this.#onIncomplete(`build ${this.#build}: ${this.#log.incomplete}`)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
