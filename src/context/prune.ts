import { hostname } from 'node:os'
import { type Pruned, type PrunePart, prunePart } from '../ami/prune.ts'
import { localPart } from '../ami/prune-local.ts'
import { deliveredVersions } from '../fleet/rollback.ts'
import type { Project } from './project.ts'
import { listWorld } from './releases.ts'
import { hasEnded } from './whoami.ts'

export interface PruneRequest {
  keep: number | undefined
  dryRun: boolean
  signal: AbortSignal
}

/** `bake prune`: one pass over everything that bakes of this project may have left. */
export async function pruneProject(project: Project, { keep, dryRun, signal }: PruneRequest): Promise<Pruned[]> {
  await using world = listWorld(project, signal)
  const ledgerWorld = { ...world, ended: hasEnded, keep, delivered: () => deliveredVersions(project.ledger) }
  const parts: PrunePart[] = [localPart({ ...ledgerWorld, host: hostname() })]
  // Else there is nothing of this project's to look for, and nobody who may look.
  const { machine } = project.config
  const bases = machine === undefined ? [] : [machine, ...machine.also]
  if (project.aws && bases.some(({ base }) => 'ami' in base)) parts.push(await (await world.aws()).prune(ledgerWorld))
  const pruned: Pruned[] = []
  for (const part of parts) {
    signal.throwIfAborted()
    pruned.push(...(await prunePart(part, project.ledger, { dryRun })))
  }
  return pruned
}
