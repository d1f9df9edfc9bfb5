import { type BakeError, refused } from '../errors.ts'
import type { DeployWorld } from './deploy-world.ts'
import { type Deployment, type Full, isFull, take } from './deployments.ts'
import { mayBeUndone, stoppedBy } from './full-state.ts'

/**
 * Throws nothing_to_answer (exit 2) when a word on how `migrate` ended would change nothing. That the data is as the old release needs it may be said whenever migrate has ended
 * and the old instances are there, also of a migration that went well or that somebody called done; nothing turns it again after that.
 */
export function checkAnswerable(open: Deployment | undefined, migrated: boolean, stack: string): asserts open is Full {
  if (!open || open.ended || !isFull(open)) throw nothing(stack, 'no full deployment is under way')
  const said = open.last('answered')
  if (said?.migrated === migrated) return
  if (said && !said.migrated) throw nothing(stack, `${said.by} has said that migrate is undone`)
  if (migrated && stoppedBy(open) === undefined) throw nothing(stack, 'nothing waits for a word on how migrate ended')
  if (!migrated && !mayBeUndone(open))
    throw nothing(
      stack,
      open.has('retiring') ? 'the old instances are being terminated' : 'nothing waits for a word on how migrate ended',
    )
}

/** A person's word on the data, recorded; the newest counts. Throws what checkAnswerable throws. */
export async function answer(open: Full, migrated: boolean, world: Pick<DeployWorld, 'ledger' | 'by'>): Promise<Full> {
  for (let at = open; ; at = await take(world.ledger, at, { step: 'answered', migrated }, world.by)) {
    checkAnswerable(at, migrated, at.document.stack)
    if (at.last('answered')?.migrated === migrated) return at
  }
}

const nothing = (stack: string, why: string): BakeError =>
  refused('nothing_to_answer', `${stack}: ${why}`, {
    next: 'run the command without --migrate-done or --migrate-undone; bake stacks shows where a deployment is',
    ids: { stack },
  })
