import type { Ledger } from '../io/ledger.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import { BUILD_ID_PATTERN, keys } from '../names.ts'
import { type BakeRecord, readBake } from './records.ts'

/** A bake by its id, or by the beginning of it when no other has it; undefined when there is none. */
export async function findBake(ledger: Ledger, id: string): Promise<BakeRecord | undefined> {
  const given = id.toLowerCase()
  if (!/^[0-9a-z-]{1,16}$/.test(given)) return undefined
  if (BUILD_ID_PATTERN.test(given)) return readBake(ledger, given)
  const found = await ledger.list(keys.bake(given), { limit: 2 })
  return found.length === 1 ? readBake(ledger, found[0]!.slice(keys.bakes.length)) : undefined
}

/** Whether a bake may still write to its log. */
export const isBaking = async ({ status, owner, leaseMs }: BakeRecord, ledger: Ledger): Promise<boolean> =>
  status === 'running' && (await isAlive(ledger, owner, leaseMs))
