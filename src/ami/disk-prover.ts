import type { Baked, BakeRun, MachinePlan, Proof, Prover } from './machine.ts'
import type { Machines } from './machines.ts'
import { proveDisk } from './prove.ts'

/** Proves disks of this machine, as a prover of a plan. */
export const diskProver = (machines: Machines): Prover => ({
  async prove(baked: Baked, plan: MachinePlan, run: BakeRun): Promise<Proof> {
    const { base, rendered, inputs } = plan
    if (baked.kind !== 'disk' || base.kind !== 'disk') throw new Error('only a disk can be proven on this machine')
    const { architecture, firmware, sha256 } = base
    // Instance metadata is part of an instance: what needs it is proven there.
    const services = plan.services.filter(({ imds }) => !imds)
    const expected = services.map(({ name, reference, proof }) => ({ name, digest: reference.digest, level: proof.level }))
    const proof = await proveDisk(
      {
        disk: { path: baked.path, format: baked.format, architecture, firmware, kernel: sha256 },
        script: rendered.proof,
        standIns: plan.standIns,
        services,
        expected: { inputs, services: expected },
      },
      run,
      machines,
    )
    return { ...proof, standIns: [...new Set(services.flatMap((service) => service.proof.with.map(({ name }) => name)))] }
  },
})
