import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'

/** Something that nothing needs any more. */
export interface Leftover {
  /** `disk`, `bake directory`, `ami`, … */
  kind: string
  /** What it is called where it is: a path, an id. The same in every pass. */
  id: string
  why: string
  sizeBytes?: number
}

/** One place where bakes leave things: this machine's state directory, a region of AWS. */
export interface PrunePart {
  /** Names its marks in the ledger. */
  readonly name: string
  /** How long a mark must stand before what it is on is deleted, ms. */
  readonly graceMs: number
  /** What could go. Reads only. */
  find(): Promise<Leftover[]>
  /** Looks once more whether anything needs it, right before it deletes; false: something does. */
  remove(leftover: Leftover): Promise<boolean>
}

export interface Pruned extends Leftover {
  /** `marked`: a later pass deletes it. `kept`: something needs it after all. */
  did: 'marked' | 'deleted' | 'kept'
}

const marksSchema = z.object({ version: z.literal(1), marks: z.record(z.string(), z.number()) })

/**
 * One pass of `bake prune` over a part: what an earlier pass marked and is still not needed is deleted, the rest marked. A mark whose subject is needed again,
 * or gone, is forgotten. With `dryRun` nothing is written, and `deleted` and `marked` are what would be done.
 */
export async function prunePart(part: PrunePart, ledger: Ledger, { dryRun }: { dryRun: boolean }): Promise<Pruned[]> {
  const at = keys.prune(part.name)
  const known = marksSchema.safeParse(await ledger.get(at).catch(() => undefined))
  const before = known.success ? known.data.marks : {}
  const found = await part.find()
  const now = Date.now()
  const marks: Record<string, number> = {}
  const pruned: Pruned[] = []
  for (const leftover of found) {
    const since = before[leftover.id]
    const due = since !== undefined && now - since >= part.graceMs
    const did = !due ? 'marked' : dryRun || (await part.remove(leftover)) ? 'deleted' : 'kept'
    if (did === 'marked') marks[leftover.id] = since ?? now
    pruned.push({ ...leftover, did })
  }
  if (!dryRun && (known.success || found.length > 0)) await ledger.put(at, { version: 1, marks })
  return pruned
}
