import { copyFile } from 'node:fs/promises'
import type { Baker, Prover } from '../ami/machine.ts'
import type { PackerDiskWorld, PackerWorld } from '../ami/packer-baker.ts'
import type { MachineDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { AmiAws } from './ami-aws.ts'
import type { Project } from './project.ts'

/** What bakes the machine of a definition. Loaded when something is baked: what is there needs none of it. */
export async function openBaker(
  { base, baker }: MachineDefinition,
  project: Project,
  aws: () => Promise<AmiAws>,
): Promise<Baker> {
  if (baker === 'direct')
    throw refused('baker_not_built', 'machine.baker: direct is not built yet', { next: 'leave it out: Packer bakes' })
  if ('ami' in base) {
    const [{ packerAmiBaker }, packer, { assertTools }, builder] = await Promise.all([
      import('../ami/packer-ami-baker.ts'),
      packerWorld(),
      import('../io/machine-tools.ts'),
      aws().then((it) => it.builder()),
    ])
    return packerAmiBaker({ ...packer, ...builder, assertTools })
  }
  const [{ packerDiskBaker }, world] = await Promise.all([import('../ami/packer-baker.ts'), packerDiskWorld(project)])
  return packerDiskBaker(world)
}

/** What proves disks on this machine. */
export async function openDiskProver(project: Project): Promise<Prover> {
  const [{ diskProver }, { qemuMachines }] = await Promise.all([import('../ami/disk-prover.ts'), import('./machines.ts')])
  return diskProver(qemuMachines(project.stateDir))
}

async function packerDiskWorld(project: Project): Promise<PackerDiskWorld> {
  const [packer, { assertTools }, { convertImage, createOverlay }, { makeSeed }, { findUefi }, { qemuMachines }] =
    await Promise.all([
      packerWorld(),
      import('../io/machine-tools.ts'),
      import('../io/qemu-img.ts'),
      import('../io/seed.ts'),
      import('../io/uefi.ts'),
      import('./machines.ts'),
    ])
  return {
    ...packer,
    assertTools,
    seed: makeSeed,
    overlay: (path, backing, signal) => createOverlay(path, backing, { signal }),
    flatten: (from, to, signal) => convertImage(from, to, { signal }),
    accelerator: qemuMachines(project.stateDir).accelerator,
    async uefi(architecture, path) {
      const { code, variables } = findUefi(architecture)
      await copyFile(variables, path)
      return { code }
    },
  }
}

async function packerWorld(): Promise<PackerWorld> {
  const [io, { makeSshKey }, { writeMachineLogin }, { RegistryLogins }] = await Promise.all([
    import('../io/packer.ts'),
    import('../io/ssh-key.ts'),
    import('../io/machine-login.ts'),
    import('../io/registry-logins.ts'),
  ])
  const logins = new RegistryLogins()
  return {
    packer: () => io.findPacker(),
    assertPlugin: io.assertPackerPlugin,
    validate: io.validateTemplate,
    build: io.buildTemplate,
    sshKey: makeSshKey,
    login: (hosts) => writeMachineLogin(hosts, logins),
  }
}
