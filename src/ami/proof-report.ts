import { z } from 'zod'

/** What a proving machine writes to its serial console, a line each, behind this. */
const MARK = 'bake-proof: '
/** Of one unit's journal. */
const KEPT_LOG_LINES = 60

const reportLine = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('begin'), inputs: z.string() }),
  z.strictObject({
    type: z.literal('service'),
    name: z.string(),
    state: z.enum(['healthy', 'started', 'failed']),
    /** Since power-on, by the machine's own clock. */
    seconds: z.number().nonnegative(),
    digest: z.string(),
    why: z.string().optional(),
  }),
  /** A line of a failing unit's journal. */
  z.strictObject({ type: z.literal('log'), name: z.string(), text: z.string() }),
  z.strictObject({ type: z.literal('end'), ok: z.boolean() }),
])
type ReportLine = z.infer<typeof reportLine>
export type ServiceReport = Extract<ReportLine, { type: 'service' }>

/** A proof's report, as far as it has come. */
export interface ProofReport {
  /** Inputs hash of the disk's own manifest; undefined: the proof didn't begin. */
  inputs?: string
  services: Map<string, ServiceReport>
  logs: Map<string, string[]>
  /** Undefined: it didn't come to its end. */
  ok?: boolean
  /** Lines with the mark that say nothing bake knows: the kernel wrote into their middle, or it is another version's report. */
  damaged: string[]
}

export const newReport = (): ProofReport => ({ services: new Map(), logs: new Map(), damaged: [] })

/** Folds a line of the console into the report; whether it was one of the report's. */
export function readReportLine(report: ProofReport, line: string): boolean {
  const at = line.indexOf(MARK)
  if (at < 0) return false
  const said = parse(line.slice(at + MARK.length))
  if (said === undefined) {
    report.damaged.push(line.slice(at))
    return true
  }
  switch (said.type) {
    case 'begin':
      report.inputs = said.inputs
      break
    case 'service':
      report.services.set(said.name, said)
      break
    case 'log': {
      const lines = report.logs.get(said.name) ?? []
      lines.push(said.text)
      report.logs.set(said.name, lines.slice(-KEPT_LOG_LINES))
      break
    }
    case 'end':
      report.ok = said.ok
  }
  return true
}

/** What else the console showed. */
export const isNoReport = (line: string): boolean => !line.includes(MARK)

function parse(text: string): ReportLine | undefined {
  try {
    return reportLine.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** What a report must say. */
export interface Expected {
  inputs: string
  services: { name: string; digest: string; level: 'healthy' | 'started' }[]
}

/** Why the report is no proof, a sentence each; empty: it is one. Without `expected` the machine's own judgement counts. */
export function faultsOf(report: ProofReport, expected?: Expected): string[] {
  const faults: string[] = []
  if (report.inputs === undefined) return ['the machine never began its proof']
  if (expected && report.inputs !== expected.inputs)
    faults.push(`the disk was made from other inputs (${short(report.inputs)}, not ${short(expected.inputs)})`)
  for (const service of report.services.values()) {
    if (service.state === 'failed') faults.push(`${service.name}: ${service.why ?? 'failed'}`)
  }
  for (const { name, digest, level } of expected?.services ?? []) {
    const said = report.services.get(name)
    if (said === undefined) faults.push(`${name}: nothing was reported`)
    else if (said.state !== 'failed' && said.digest !== digest)
      faults.push(`${name}: runs ${said.digest || 'nothing'}, not ${digest}`)
    else if (said.state === 'started' && level === 'healthy') faults.push(`${name}: started, but no health check passed`)
  }
  if (report.ok === undefined) faults.push('the machine ended before its proof did')
  else if (!report.ok && faults.length === 0) faults.push('the machine says that its proof failed')
  return faults
}

const short = (hash: string) => hash.slice(0, 16)
