import type { MachineEvent } from '../events.ts'
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

/** The log of one bake, kept as a build's log is: `bake logs` shows it. `onIncomplete`: told what the ledger could not take. */
export function openBakeLog(
  { ledger, pollMs, onIncomplete }: { ledger: Ledger; pollMs: number; onIncomplete: (text: string) => void },
  build: string,
  claim: number,
): BakeLog {
  const redactor = new Redactor([])
  const log = new LogWriter(ledger, keys.log(build, claim), { redact: redactor, flushMs: Math.max(LEAST_FLUSH_MS, pollMs) })
  const steps = new PhaseSteps()
  const phases: BakeLog['phases'] = []
  return {
    phases,
    hide: (secrets) => redactor.add(secrets),
    redact: (text) => redactor.text(text),
    tell(event) {
      if (event.type === 'phase' && event.state === 'done') phases.push({ phase: event.phase, seconds: event.seconds ?? 0 })
      for (const each of steps.of(event)) void log.write(each)
    },
    async [Symbol.asyncDispose]() {
      await log.close()
      if (log.incomplete !== undefined) onIncomplete(`build ${build}: ${log.incomplete}`)
    },
  }
}
