import { isDeepStrictEqual } from 'node:util'
import type { Found, Resource } from '../io/aws-resource.ts'
import type { Difference, Step } from './types.ts'

/** Settings that may be more than wanted: whoever keeps things longer had a reason. */
const AT_LEAST = new Set(['retentionSeconds', 'expiryDays'])

/** What has to be done to `wanted`; undefined when it is as it should be. Pure. */
export function stepFor(wanted: Resource, found: Found | undefined): Step | undefined {
  const { kind, name, settings } = wanted
  if (found === undefined) {
    const differences = Object.entries(settings).map(([setting, to]) => ({ setting, to }))
    return { action: 'create', kind, name, differences }
  }
  const differences = Object.entries(settings)
    .filter(([setting, to]) => !fits(setting, found.settings[setting], to) && found.unsupported?.[setting] === undefined)
    .map(([setting, to]): Difference => ({ setting, from: found.settings[setting], to }))
  return differences.length === 0 ? undefined : { action: 'change', kind, name, differences }
}

function fits(setting: string, found: unknown, wanted: unknown): boolean {
  if (!AT_LEAST.has(setting)) return isDeepStrictEqual(found, wanted)
  if (typeof wanted === 'number') return typeof found === 'number' && found >= wanted
  if (!isTable(found) || !isTable(wanted)) return false
  return Object.entries(wanted).every(([key, value]) => fits(setting, found[key], value))
}

const isTable = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
