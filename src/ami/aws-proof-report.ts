import { failed } from '../errors.ts'
import type { ProvenBoot } from './machine.ts'
import { isNoReport, newReport, type ProofReport, readReportLine } from './proof-report.ts'

/** Lines that are shown when nothing else tells why. */
const SHOWN_LINES = 30
/** And beside journals. */
const FEW_LINES = 8
/** ECMA-48 control sequences, and what a terminal doesn't print. */
const CONTROLS = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])|[\x00-\x09\x0b-\x1f\x7f]/g

/**
 * The console of an instance as GetConsoleOutput gives it: all of it again with every look, or its last 64 KiB, the last line perhaps half. What was read
 * once isn't read again.
 */
export class InstanceConsole {
  readonly report: ProofReport = newReport()
  readonly #onLine: (line: string) => void
  #before: string[] = []

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  /** `whole`: nothing more will come of its last line. */
  read(text: string, whole = false): void {
    const lines = text.replace(CONTROLS, '').split('\n')
    const rest = lines.pop() ?? ''
    if (whole && rest !== '') lines.push(rest)
    for (const line of lines.slice(overlap(this.#before, lines))) {
      this.#onLine(line)
      readReportLine(this.report, line)
    }
    if (lines.length > 0) this.#before = lines
  }

  get last(): string[] {
    return this.#before.filter((line) => line.trim() !== '').slice(-SHOWN_LINES)
  }
}

/** How many lines at the beginning of `now` are what `before` ended with. */
function overlap(before: string[], now: string[]): number {
  for (let from = 0; from < before.length; from++) {
    const length = Math.min(before.length - from, now.length)
    let same = 0
    while (same < length && before[from + same] === now[same]) same++
    if (same === length && from + same === before.length) return same
  }
  return 0
}

export function provenBoot(report: ProofReport): ProvenBoot {
  const services = [...report.services.values()].flatMap(({ name, state, seconds, digest }) =>
    state === 'failed' ? [] : [{ service: name, level: state, seconds, digest }],
  )
  return { network: 'aws', seconds: Math.max(0, ...services.map(({ seconds }) => seconds)), services }
}

/** Says why, then shows each failing unit's journal, and where the console ended. */
export function proofFailed(
  faults: string[],
  { report, last }: InstanceConsole,
  ids: { ami: string; instance: string; region: string },
) {
  const logs = [...report.logs].flatMap(([name, lines]) => [`${name}'s journal:`, ...lines.map((line) => `  ${line}`)])
  const lines = logs.length > 0 ? last.filter(isNoReport).slice(-FEW_LINES) : last
  const shown = [...logs, ...(lines.length === 0 ? [] : ['the console’s last lines:', ...lines.map((line) => `  ${line}`)])]
  const why = `${ids.ami} is not proven: in a subnet without routes ${faults.join('; ')}`
  return failed('proof_failed', [why, ...shown].join('\n'), {
    ids,
    next: 'what a service needs to start must be on the machine, or stand in for it: services.*.proof in bake.yaml',
  })
}
