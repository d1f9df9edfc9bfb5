import { sha256 } from '../names.ts'
import { qemuProgram } from '../qemu-names.ts'
import type { Baked, BakeRun, MachinePlan, Proof, Prover } from './machine.ts'
import type { Machines } from './machines.ts'
import { proveDisk } from './prove.ts'

/** Proves disks of this machine, as a prover of a plan. */
export const diskProver = (machines: Machines, assertTools: (commands: string[]) => void): Prover => ({
  available: ({ base, standIns }) =>
    assertTools([qemuProgram(base.architecture), 'mkfs.vfat', 'mcopy', ...(standIns.length > 0 ? ['docker'] : [])]),
  async prove(baked: Baked, plan: MachinePlan, run: BakeRun): Promise<Proof> {
    const { rendered, inputs } = plan
    if (baked.kind !== 'disk') throw new Error('only a disk can be proven on this machine')
    // Instance metadata is part of an instance: what needs it is proven there.
    const services = plan.services.filter(({ imds }) => !imds)
    const expected = services.map(({ name, reference, proof }) => ({ name, digest: reference.digest, level: proof.level }))
    const proof = await proveDisk(
      {
        disk: { path: baked.path, format: baked.format, ...bootOf(plan) },
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

/** As it will boot on EC2, where an AMI that prefers UEFI boots either way; on arm64 there is no other. */
function bootOf({ base, definition }: MachinePlan) {
  const { architecture } = base
  if (base.kind === 'disk') return { architecture, firmware: base.firmware, kernel: base.sha256 }
  const uefi = architecture === 'arm64' || (definition.ami.bootMode ?? base.bootMode) === 'uefi'
  return { architecture, firmware: uefi ? ('uefi' as const) : ('bios' as const), kernel: sha256(`${base.region}/${base.id}`) }
}
