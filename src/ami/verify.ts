import { failed, refused } from '../errors.ts'
import { newBuildId } from '../names.ts'
import { bakeRelease } from './bake.ts'
import type { ListedRelease } from './list.ts'
import type { Baked, Proof } from './machine.ts'
import { type Preview, previewBake } from './preview.ts'
import type { ReleaseAsk } from './release.ts'
import { inPhase } from './steps.ts'
import { openWorkDir } from './work-dir.ts'
import type { BakeWorld } from './world.ts'

export interface VerifiedRelease {
  baked: Baked
  proof: Proof
  /** It counts from now on: until now the machine image wasn't proven as bake.yaml asks. */
  recorded: boolean
}

/**
 * Proves the machine image of a release again, or for the first time, and then records it. Bakes nothing. `ami`: what the caller takes it for. Throws
 * not_baked or ami_replaced (exit 2), proof_failed (exit 3).
 */
export async function verifyRelease(ask: ReleaseAsk & { ami?: string }, world: BakeWorld): Promise<VerifiedRelease> {
  const seen = await previewBake({ ...ask, verify: true, rebake: false }, world)
  checkAmi(ask.ami, seen)
  if (seen.action === 'prove') {
    const { machine } = await bakeRelease({ ...ask, verify: true, rebake: false, keepFailed: false }, world)
    if (!machine.document.proof) throw failed('proof_failed', `release ${seen.release.name} was not proven`)
    return { baked: machine.baked, proof: machine.document.proof, recorded: true }
  }
  const { plan, machine } = seen
  if (seen.action !== 'none' || !plan || !machine)
    throw refused('not_baked', `release ${seen.release.name} is not baked: ${seen.reason}`, {
      next: `bake ami --release ${seen.release.name}`,
      ids: { release: seen.release.name },
    })
  const id = newBuildId()
  await using work = await openWorkDir(world.stateDir, id, world.process)
  const run = { id, dir: work.path, signal: world.signal, tell: world.tell }
  const prover = await world.prover(plan.base.kind)
  return {
    baked: machine.baked,
    proof: await inPhase('proof', world.tell, () => prover.prove(machine.baked, plan, run)),
    recorded: false,
  }
}

/** Another bake, or another base, may have become the release's machine image since. */
function checkAmi(ami: string | undefined, { machine, release }: Preview): void {
  const now = machine?.baked.kind === 'ami' ? machine.baked.id : undefined
  if (ami === undefined || now === undefined || now === ami) return
  throw refused('ami_replaced', `${ami} was release ${release.name} once; now that is ${now}`, {
    next: `bake verify ${now}`,
    ids: { release: release.name },
  })
}

/** The newest release that was baked as this AMI. Throws ami_unknown (exit 2) for one that no release was baked as, ami_copy for a copy in another region. */
export function releaseOfAmi(id: string, releases: ListedRelease[]): string {
  for (const { release, machines } of releases)
    for (const { baked } of machines) {
      if (baked.kind !== 'ami') continue
      if (baked.id === id) return release.name
      if (baked.copies?.some((copy) => copy.id === id))
        throw refused('ami_copy', `${id} is a copy of ${baked.id} in another region: the same blocks`, {
          next: `bake verify ${baked.id}    proves what it was copied from, in ${baked.region}`,
          ids: { release: release.name },
        })
    }
  throw refused('ami_unknown', `no release of this project was baked as ${id}`, {
    next: 'bake releases    lists those that were',
  })
}
