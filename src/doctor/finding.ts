import type { Finding } from './types.ts'

export const ok = (detail: string): Finding => ({ status: 'ok', detail })
export const warning = (detail: string, fix: string): Finding => ({ status: 'warning', detail, fix })
export const failedWith = (detail: string, fix: string): Finding => ({ status: 'failed', detail, fix })
export const skipped = (detail: string): Finding => ({ status: 'skipped', detail })

/** Whether `version` (`26.1.5+dfsg1`) is `least` or newer. */
export function newerThan(version: string, least: readonly number[]): boolean {
  const parts = version.split(/[.+-]/).map(Number)
  for (const [at, number] of least.entries()) {
    const part = parts[at] ?? 0
    if (part !== number) return part > number
  }
  return true
}

/** `1536` → `1.5 KiB`, for disks. */
export function bytes(count: number): string {
  const power = count < 1 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${value < 10 && power > 0 ? value.toFixed(1) : Math.round(value)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`
}
