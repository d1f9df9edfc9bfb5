import { stripVTControlCharacters } from 'node:util'
import { BakeError, EXIT, messageOf } from '../errors.ts'
import type { Palette } from './style.ts'

/** Where a person takes a stack trace. */
const REPORT_TO = 'this is a bug in bake: please report it with the lines above and the output of `bake doctor`'

/** The `error` of a version 1 JSON document. */
export interface ErrorReport {
  code: string
  message: string
  next?: string
  exit: number
  ids: Record<string, string>
  /** Only for bugs. */
  stack?: string
}

/** Any error as something to print; what is no BakeError is a bug of ours (exit 1) and keeps its stack. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof BakeError) {
    const { code, message, next, exit, ids } = error
    return { code, message, ...(next === undefined ? {} : { next }), exit, ids }
  }
  const stack = error instanceof Error ? stripVTControlCharacters(fullStack(error)) : String(error)
  return { code: 'bug', message: messageOf(error), next: REPORT_TO, exit: EXIT.bug, ids: {}, stack }
}

/** The stack with those of its causes: the first cause is what a maintainer looks for. */
function fullStack(error: Error): string {
  const own = error.stack ?? error.message
  return error.cause instanceof Error ? `${own}\ncaused by ${fullStack(error.cause)}` : own
}

/** Nobody looks these up. */
const UNTOLD = new Set(['bug', 'usage', 'unknown_command'])

/** The report as lines for stderr, without the last newline. */
export function formatReport(report: ErrorReport, paint: Palette): string {
  const lines = [headline(report, paint)]
  if (report.next !== undefined) lines.push(`${paint.cyan('next:')} ${report.next}`)
  const known = UNTOLD.has(report.code) || report.exit === EXIT.interrupted ? [] : [`code=${report.code}`]
  const ids = [...known, ...Object.entries(report.ids).map(([name, id]) => `${name}=${id}`)]
  if (ids.length > 0) lines.push(paint.dim(ids.join(' ')))
  return lines.join('\n')
}

function headline(report: ErrorReport, paint: Palette): string {
  if (report.stack !== undefined) return `${paint.red('bug:')} ${report.stack}`
  if (report.exit === EXIT.interrupted) return report.message
  return `${paint.red('error:')} ${report.message}`
}
