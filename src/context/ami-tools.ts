import { copyFile, stat } from 'node:fs/promises'
import type { DirectBakerWorld } from '../ami/direct/baker.ts'
import { BLOCK_BYTES } from '../ami/direct/blocks.ts'
import type { Baker, Prover } from '../ami/machine.ts'
import type { PackerDiskWorld, PackerWorld } from '../ami/packer-baker.ts'
import type { MachineDefinition } from '../config.ts'
import { packageFile, packageVersion } from '../package-root.ts'
import type { AmiAws } from './ami-aws.ts'
import type { Project } from './project.ts'
import { whoami } from './whoami.ts'

/**
 * What bakes the machine of a definition; `asked`: --baker, --explain. Disks are changed by bake itself unless Packer is asked for. Loaded when something is baked: what
 * is there needs none of it.
 */
export async function openBaker(
  { base, baker }: MachineDefinition,
  project: Project,
  aws: () => Promise<AmiAws>,
  asked: { baker?: Baker['name'] | undefined; explain?: boolean },
): Promise<Baker> {
  const who = asked.baker ?? baker
  if ('ami' in base) {
    const packer = async () => {
      const [{ packerAmiBaker }, packer, { assertTools }, builder] = await Promise.all([
        import('../ami/packer-ami-baker.ts'),
        packerWorld(),
        import('../io/machine-tools.ts'),
        aws().then((it) => it.builder()),
      ])
      return packerAmiBaker({ ...packer, ...builder, assertTools })
    }
    if (who !== 'direct') return packer()
    const [{ directAmiBaker }, world, regions] = await Promise.all([
      import('../ami/direct/ami-baker.ts'),
      directWorld(project),
      aws().then((it) => it.direct()),
    ])
    const explain = asked.explain ?? false
    return directAmiBaker({ ...world, ...regions, packer, explain, ledger: project.ledger, by: whoami() })
  }
  const packer = async () => {
    const [{ packerDiskBaker }, world] = await Promise.all([import('../ami/packer-baker.ts'), packerDiskWorld(project)])
    return packerDiskBaker(world)
  }
  if (who === 'packer') return packer()
  const { directDiskBaker } = await import('../ami/direct/baker.ts')
  return directDiskBaker({ ...(await directWorld(project)), packer, explain: asked.explain ?? false })
}

/** What proves disks on this machine. */
export async function openDiskProver(project: Project): Promise<Prover> {
  const [{ diskProver }, { qemuMachines }, { assertTools }] = await Promise.all([
    import('../ami/disk-prover.ts'),
    import('./machines.ts'),
    import('../io/machine-tools.ts'),
  ])
  return diskProver(qemuMachines(project.stateDir), assertTools)
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

/** What changing disks takes, wherever they come from. */
async function directWorld({ stateDir }: Project): Promise<Omit<DirectBakerWorld, 'packer' | 'explain'>> {
  const [
    { changeDisk, missingForDisks },
    { helperWay },
    { openLayers },
    { fileSystemsOf },
    { copyDisk },
    { createOverlay, rebaseOverlay },
    logins,
    hashes,
  ] = await Promise.all([
    import('../io/change-disk.ts'),
    import('../io/disk-helper.ts'),
    import('../io/disk-layers.ts'),
    import('../io/disk-file-systems.ts'),
    import('../io/copy-disk.ts'),
    import('../io/qemu-img.ts'),
    machineLogins(),
    import('../ami/direct/hashes.ts'),
  ])
  const script = packageFile('templates/direct/helper.sh')
  let known: ReturnType<typeof helperWay> | undefined
  const way = () => {
    known ??= helperWay(script)
    return known
  }
  return {
    stateDir,
    version: packageVersion(),
    async means() {
      const linux = process.platform === 'linux'
      const helper = linux ? await way() : undefined
      return {
        platform: process.platform,
        architecture: process.arch === 'x64' ? 'amd64' : process.arch === 'arm64' ? 'arm64' : undefined,
        helper,
        missing: linux ? missingForDisks(helper) : [],
      }
    },
    layers: openLayers,
    fileSystems: fileSystemsOf,
    async copyDisk(from, to, signal) {
      const reader = hashes.hashReader()
      await copyDisk(from, to, { size: BLOCK_BYTES, onPiece: reader.take, signal })
      return reader.end((await stat(to)).size)
    },
    overlay: (path, backing, signal) => createOverlay(path, backing, { tracked: true, signal }),
    rebase: rebaseOverlay,
    async change(change) {
      const how = await way()
      return how
        ? changeDisk({ ...change, way: how, script })
        : { kind: 'unfit', reason: "it is mounted by root, who isn't at hand" }
    },
    login: logins,
  }
}

async function packerWorld(): Promise<PackerWorld> {
  const [io, { makeSshKey }, login] = await Promise.all([import('../io/packer.ts'), import('../io/ssh-key.ts'), machineLogins()])
  return {
    packer: () => io.findPacker(),
    assertPlugin: io.assertPackerPlugin,
    validate: io.validateTemplate,
    build: io.buildTemplate,
    sshKey: makeSshKey,
    login,
  }
}

async function machineLogins(): Promise<PackerWorld['login']> {
  const [{ writeMachineLogin }, { RegistryLogins }] = await Promise.all([
    import('../io/machine-login.ts'),
    import('../io/registry-logins.ts'),
  ])
  const logins = new RegistryLogins()
  return (hosts) => writeMachineLogin(hosts, logins)
}
