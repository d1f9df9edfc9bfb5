import { failed, refused } from '../errors.ts'
import { newBuildId } from '../names.ts'
import { bakeRelease } from './bake.ts'
import type { ListedRelease } from './list.ts'
import type { Baked, Proof } from './machine.ts'
import { previewBake } from './preview.ts'
import { type ReleaseAsk, resolveRelease } from './release.ts'
import { readSource } from './source.ts'
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
 * Proves the machine image of a release again, or for the first time, and then records it. Bakes nothing. `ami`: only when it is that one, else
 * undefined. Throws not_baked (exit 2), proof_failed (exit 3).
 */
export async function verifyRelease(ask: ReleaseAsk & { ami?: string }, world: BakeWorld): Promise<VerifiedRelease | undefined> {
  const seen = await previewBake({ ...ask, verify: true, rebake: false }, world)
  if (ask.ami !== undefined && !(seen.machine?.baked.kind === 'ami' && seen.machine.baked.id === ask.ami)) return undefined
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
export const replaced = (ami: string, release: string) =>
  refused('ami_replaced', `${ami} was release ${release} once; now it is another one`, {
    next: `bake release ${release}    shows it`,
    ids: { release },
  })

/** Numbers of a release's machine images: `machine` itself and each of its `also`. */
export async function variantsOf(ask: ReleaseAsk, world: BakeWorld): Promise<number[]> {
  const release = await resolveRelease(ask, world.commits, world.ledger)
  const { definition } = await readSource(release, world)
  return [0, ...definition.also.map((_, index) => index + 1)]
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
