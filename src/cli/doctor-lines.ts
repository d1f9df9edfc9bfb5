import type { CheckResult } from '../doctor.ts'
import type { Palette } from './style.ts'

const SIGNS = { ok: '✓', warning: '!', failed: '✗', skipped: '-' } as const

/** One line per check, further lines of it and its fix below; signs with colours, words without. */
export function doctorLines(results: CheckResult[], paint: Palette, colours: boolean): string[] {
  const colour = { ok: paint.green, warning: paint.yellow, failed: paint.red, skipped: paint.dim } as const
  const idWidth = Math.max(...results.map(({ id }) => id.length))
  const signWidth = colours ? 1 : Math.max(...results.map(({ status }) => status.length))
  const indent = ' '.repeat(signWidth + idWidth + 4)
  return results.flatMap(({ id, status, detail, fix }) => {
    const sign = (colours ? SIGNS[status] : status).padEnd(signWidth)
    const [first = '', ...rest] = detail.split('\n')
    const lines = [
      `${colour[status](sign)}  ${id.padEnd(idWidth)}  ${status === 'skipped' ? paint.dim(first) : first}`,
      ...rest.map((line) => indent + line),
    ]
    return fix === undefined ? lines : [...lines, `${indent}${paint.cyan('fix:')} ${fix}`]
  })
}

/** `2 failed, 1 warning` or `all fine`. */
export function doctorSummary(results: CheckResult[]): string {
  const count = (status: CheckResult['status']) => results.filter((result) => result.status === status).length
  const [failed, warnings] = [count('failed'), count('warning')]
  if (failed + warnings === 0) return 'all fine'
  return [failed > 0 ? `${failed} failed` : '', warnings > 0 ? `${warnings} warning${warnings === 1 ? '' : 's'}` : '']
    .filter((part) => part !== '')
    .join(', ')
}
