import type { BakeRun, MachinePlan, Proof } from './machine.ts'
import { inPhase } from './steps.ts'
import type { BakeWorld } from './world.ts'

/**
 * The proof of a disk that becomes an AMI, at the same time as that is made. An instance has what no machine here has: services with `imds: true` are proven there,
 * by `rest`, and count as one proof with the others.
 */
export function earlyProof(plan: MachinePlan, run: (name: string) => Promise<BakeRun>, tell: BakeRun['tell'], world: BakeWorld) {
  const complete = !plan.services.some(({ imds }) => imds)
  let proof: Proof | undefined
  const prove: NonNullable<BakeRun['prove']> = async (disk, signal) => {
    const prover = await world.prover('disk')
    const within = { ...(await run('proof-disk')), signal }
    proof = await inPhase('proof', tell, () => prover.prove({ kind: 'disk', ...disk, sizeBytes: 0 }, plan, within))
    return complete
  }
  return {
    prove,
    /** Proves what is left. */
    async rest(all: () => Promise<Proof>): Promise<Proof> {
      if (proof === undefined) return all()
      if (complete) return proof
      const second = await all()
      return { ...proof, at: second.at, boots: [...proof.boots, ...second.boots] }
    },
  }
}
