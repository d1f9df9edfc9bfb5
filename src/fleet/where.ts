import type { Ledger } from '../io/ledger.ts'
import { newest } from './deployments.ts'
import { readSwaps } from './swap-record.ts'

/** A stack that runs a release, as the record has it. */
export interface RunsOn {
  stack: string
  /** `maybe`: a deployment from it or to it goes on, or stopped half-way. `swapped`: by `bake swap`, services of this commit. */
  how: 'deployed' | 'maybe' | 'swapped'
  /** ms since the epoch */
  since: number
  by: string
}

/** Where the record has a release; what was changed without bake only `bake stacks` sees. Throws ledger_damaged (exit 4). */
export async function whereRuns(
  { name, commit }: { name: string; commit: string },
  stacks: string[],
  ledger: Ledger,
): Promise<RunsOn[]> {
  const found = await Promise.all(stacks.map((stack) => onStack(stack, { name, commit }, ledger)))
  return found.flat()
}

async function onStack(stack: string, { name, commit }: { name: string; commit: string }, ledger: Ledger): Promise<RunsOn[]> {
  const [last, { current }] = await Promise.all([newest(ledger, stack), readSwaps(ledger, stack)])
  const found: RunsOn[] = []
  if (last) {
    const { document, ended } = last
    const { from, to, by, at } = document
    const runs = ended?.status === 'deployed' ? [to] : ended?.status === 'rolled-back' ? [from] : [from, to]
    if (runs.some(({ release }) => release === name))
      found.push({ stack, how: runs.length === 1 ? 'deployed' : 'maybe', since: ended?.at ?? at, by })
  }
  if (current?.commit === commit && Object.keys(current.images).length > 0)
    found.push({ stack, how: 'swapped', since: current.at, by: current.by })
  return found
}
