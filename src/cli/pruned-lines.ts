import type { Pruned } from '../ami/prune.ts'
import { size } from './format.ts'

const DID = {
  marked: ['marked', 'would mark'],
  deleted: ['deleted', 'would delete'],
  kept: ['kept', 'kept'],
} as const

/** A line for each thing that `bake prune` found. */
export const prunedLines = (pruned: readonly Pruned[], dryRun: boolean): string[] =>
  pruned.map(({ did, kind, id, why, sizeBytes }) => {
    const bytes = sizeBytes === undefined ? '' : ` (${size(sizeBytes)})`
    const reason = did === 'kept' ? 'something needs it after all' : why
    return `${DID[did][dryRun ? 1 : 0]} ${kind} ${id}${bytes}: ${reason}`
  })
