import { refused } from '../errors.ts'

/** Settings of a worker's process that have a BAKE_* variable and no flag. Times are milliseconds. */
export interface Settings {
  /** How long a claim stands without a beat. Short enough that a dead worker's build is soon somebody else's. */
  leaseMs: number
  /** SQS visibility timeout (docs/design.md §6: 60–120 s). */
  visibilitySeconds: number
  buildTimeoutMs: number
  /** How long a starting worker may fill its caches before its first job, and how often an idle one looks for what others published; 0: never. */
  warmMs: number | undefined
  followMs: number | undefined
  /** On EC2: whether a busy worker protects its instance from scale-in. */
  scaleInProtection: boolean
  /** On EC2: the name of the hook to complete when the instance is to be terminated; undefined: the group's first; false: none. */
  lifecycleHook: string | false | undefined
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

const seconds = (name: string): number | undefined => (process.env[name] ? number(name, 0, 0) * 1000 : undefined)

const OFF = new Set(['0', 'off', 'false', 'no'])
const text = (name: string): string | undefined => process.env[name] || undefined

function lifecycleHook(): string | false | undefined {
  const hook = text('BAKE_LIFECYCLE_HOOK')
  return hook !== undefined && OFF.has(hook.toLowerCase()) ? false : hook
}

export const readSettings = (): Settings => ({
  leaseMs: number('BAKE_LEASE_SECONDS', 20, 0.5) * 1000,
  visibilitySeconds: number('BAKE_VISIBILITY_SECONDS', 60, 2),
  // Well under the 12 hours that SQS lets a message be held.
  buildTimeoutMs: number('BAKE_BUILD_TIMEOUT_MINUTES', 180, 0.01) * 60_000,
  warmMs: seconds('BAKE_WARM_SECONDS'),
  followMs: seconds('BAKE_FOLLOW_SECONDS'),
  scaleInProtection: !OFF.has(text('BAKE_SCALE_IN_PROTECTION')?.toLowerCase() ?? 'on'),
  lifecycleHook: lifecycleHook(),
})
