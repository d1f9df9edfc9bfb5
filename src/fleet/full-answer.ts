import { type BakeError, refused } from '../errors.ts'
import type { DeployWorld } from './deploy-world.ts'
import { type Deployment, type Full, isFull, take } from './deployments.ts'
import { stoppedBy } from './full-state.ts'

/** Throws nothing_to_answer (exit 2) when no person is asked how `migrate` ended, or another has said otherwise. */
export function checkAnswerable(open: Deployment | undefined, migrated: boolean, stack: string): asserts open is Full {
  if (!open || open.ended || !isFull(open)) throw nothing(stack, 'no full deployment is under way')
  const said = open.last('answered')
  if (said && said.migrated !== migrated)
    throw nothing(stack, `${said.by} has said that migrate ${said.migrated ? 'is done' : 'is undone'}`)
  if (!said && stoppedBy(open) === undefined) throw nothing(stack, 'nothing waits for a word on how migrate ended')
}

/** A person's word on the data, recorded; it counts once. Throws what checkAnswerable throws. */
export async function answer(open: Full, migrated: boolean, world: Pick<DeployWorld, 'ledger' | 'by'>): Promise<Full> {
  for (let at = open; ; at = await take(world.ledger, at, { step: 'answered', migrated }, world.by)) {
    checkAnswerable(at, migrated, at.document.stack)
    if (at.has('answered')) return at
  }
}

const nothing = (stack: string, why: string): BakeError =>
  refused('nothing_to_answer', `${stack}: ${why}`, {
    next: 'run the command without --migrate-done or --migrate-undone; bake stacks shows where a deployment is',
    ids: { stack },
  })
