import { refused } from '../errors.ts'

/** Settings of a worker's process that have a BAKE_* variable and no flag. Times are milliseconds. */
export interface Settings {
  /** How long a claim stands without a beat. Short enough that a dead worker's build is soon somebody else's. */
  leaseMs: number
  /** SQS visibility timeout (docs/design.md §6: 60–120 s). */
  visibilitySeconds: number
  buildTimeoutMs: number
}

const number = (name: string, fallback: number, least: number): number => {
  const text = process.env[name]
  if (text === undefined || text === '') return fallback
  const value = Number(text)
  if (Number.isFinite(value) && value >= least) return value
  throw refused('bad_setting', `${name}=${text} is not a number of at least ${least}`, {
    next: `unset ${name}, or give it a number`,
  })
}

export const readSettings = (): Settings => ({
  leaseMs: number('BAKE_LEASE_SECONDS', 20, 0.5) * 1000,
  visibilitySeconds: number('BAKE_VISIBILITY_SECONDS', 60, 2),
  // Well under the 12 hours that SQS lets a message be held.
  buildTimeoutMs: number('BAKE_BUILD_TIMEOUT_MINUTES', 180, 0.01) * 60_000,
})
