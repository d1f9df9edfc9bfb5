import { failed, refused } from '../errors.ts'
import { newBuildId } from '../names.ts'
import { bakeRelease } from './bake.ts'
import type { Baked, Proof } from './machine.ts'
import { previewBake } from './preview.ts'
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
 * Proves the machine image of a release again, or for the first time, and then records it. Bakes nothing. Throws not_baked (exit 2), proof_failed (exit 3).
 */
export async function verifyRelease(ask: ReleaseAsk, world: BakeWorld): Promise<VerifiedRelease> {
  const seen = await previewBake({ ...ask, verify: true, rebake: false }, world)
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
