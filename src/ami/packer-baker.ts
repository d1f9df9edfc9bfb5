import { mkdir, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BakeError, failed } from '../errors.ts'
import type { Packer, PackerRun } from '../io/packer.ts'
import type { Backing } from '../io/qemu-img.ts'
import type { SshKey } from '../io/ssh-key.ts'
import { cpuModel, qemuProgram } from '../qemu-names.ts'
import type { Baked, BakeRun, Baker, DiskBase, MachinePlan } from './machine.ts'
import type { BootDisk } from './machines.ts'
import { PackerStory } from './packer-story.ts'
import { type MachineLogin, registriesOf } from './registries.ts'
import { writeRendered } from './render.ts'
import { keyCredentials, seedFiles } from './seed-files.ts'
import { inPhase } from './steps.ts'

export interface PackerWorld {
  packer(): Promise<Packer>
  assertPlugin(packer: Packer, plugin: 'qemu' | 'amazon'): Promise<void>
  validate(packer: Packer, run: PackerRun): Promise<void>
  build(packer: Packer, run: PackerRun): Promise<string>
  sshKey(signal: AbortSignal): Promise<SshKey>
  /** For the registries of these images that want one; undefined when none does. */
  login(hosts: string[]): Promise<MachineLogin | undefined>
}

export interface PackerDiskWorld extends PackerWorld {
  /** Throws tool_missing (exit 4). */
  assertTools(commands: string[]): void
  /** Writes a NoCloud seed. */
  seed(path: string, files: Record<string, string>, signal: AbortSignal): Promise<void>
  overlay(path: string, backing: Backing, signal: AbortSignal): Promise<void>
  flatten(from: Backing, to: Backing, signal: AbortSignal): Promise<void>
  accelerator(disk: BootDisk, run: { dir: string; signal: AbortSignal }): Promise<{ accelerator: 'kvm' | 'tcg'; why?: string }>
  /** The firmware, and a copy of its settings at `variables`. */
  uefi(architecture: DiskBase['architecture'], variables: string): Promise<{ code: string }>
}

/** Where what Packer reads by itself is: https://developer.hashicorp.com/packer/docs/templates/hcl_templates/variables#auto-loaded-variable-definition-files */
const VARIABLES = 'machine.auto.pkrvars.json'

/** Machine images of disks by Packer's qemu builder: a virtual machine of the base, provisioned over SSH. */
export const packerDiskBaker = (world: PackerDiskWorld): Baker => ({
  name: 'packer',
  async available() {
    await world.assertPlugin(await world.packer(), 'qemu')
    world.assertTools(['qemu-img', 'mkfs.vfat', 'mcopy', 'ssh-keygen'])
  },
  async prevalidate({ base }) {
    world.assertTools([qemuProgram(base.architecture)])
  },
  async bake(plan: MachinePlan, run: BakeRun): Promise<Baked> {
    const { base } = plan
    if (base.kind !== 'disk') throw new Error('an AMI is baked on AWS')
    await using key = await world.sshKey(run.signal)
    await runPacker(plan, run, world, async (write) => {
      const { accelerator, why } = await world.accelerator({ ...base, kernel: base.sha256 }, run)
      if (why !== undefined) run.tell({ type: 'note', level: 'info', text: `software emulation: ${why}`, t: Date.now() })
      await world.seed(
        join(run.dir, 'seed.img'),
        seedFiles({ instance: `bake-${run.id}`, facts: {}, rootKey: key.publicKey }),
        run.signal,
      )
      await world.overlay(join(run.dir, 'base.qcow2'), base, run.signal)
      await writeFile(join(run.dir, QEMU), qemuScript(base.architecture), { mode: 0o755 })
      await write({
        accelerator,
        qemu: `./${QEMU}`,
        cpu: cpuModel(base.architecture, accelerator),
        ssh_private_key_file: key.privateKeyPath,
        smbios: Object.entries(keyCredentials(key.publicKey)).map(
          ([name, value]) => `type=11,value=io.systemd.credential.binary:${name}=${Buffer.from(value).toString('base64')}`,
        ),
        ...(base.firmware === 'uefi' && {
          uefi_code: (await world.uefi(base.architecture, join(run.dir, 'uefi-variables.fd'))).code,
        }),
      })
    })
    const path = join(run.dir, 'disk.qcow2')
    await inPhase('flatten', run.tell, () =>
      world.flatten({ path: join(run.dir, 'output/disk.qcow2'), format: 'qcow2' }, { path, format: 'qcow2' }, run.signal),
    )
    return { kind: 'disk', path, format: 'qcow2', sizeBytes: (await stat(path)).size }
  },
})

const QEMU = 'qemu.sh'

/** SIGKILL of bake ends Packer, and that of Packer must end its machine: nobody else would (prctl(2), PR_SET_PDEATHSIG). */
const qemuScript = (architecture: DiskBase['architecture']): string => {
  const command = qemuProgram(architecture)
  return `#!/bin/sh
if command -v setpriv >/dev/null 2>&1; then exec setpriv --pdeathsig KILL -- ${command} "$@"; fi
exec ${command} "$@"
`
}

/** Writes what Packer works on, validates it, builds. Gives the artifact's id. `prepare` writes the variables. */
export async function runPacker(
  plan: MachinePlan,
  run: BakeRun,
  world: PackerWorld,
  prepare: (write: (variables: object) => Promise<void>) => Promise<void>,
): Promise<string> {
  const packer = await world.packer()
  const { dir, signal } = run
  const hcl = plan.rendered.packer?.[packer.namesPlugins ? 'plugins' : 'builtIn']
  if (hcl === undefined) throw new Error('nothing was rendered for Packer')
  await writeRendered(dir, plan.rendered, hcl)
  await using login = await world.login(registriesOf(plan))
  if (login) {
    run.hide?.(login.secrets)
    await mkdir(join(dir, 'machine'), { recursive: true })
    await symlink(login.dir, join(dir, 'machine/login'))
  }
  await prepare((variables) => writeFile(join(dir, VARIABLES), JSON.stringify(variables, null, 2)))
  const story = new PackerStory(run.tell)
  try {
    await world.validate(packer, { dir, signal, onLine() {} })
    const artifact = await world.build(packer, {
      dir,
      signal,
      keepFailed: keepsFailed(plan, run),
      onLine: (line) => story.take(line),
    })
    story.end(true)
    return artifact
  } catch (error) {
    const said = story.end(false)
    signal.throwIfAborted()
    throw error instanceof BakeError && error.code === 'packer_failed' ? bakeFailed(said, error, plan, run) : error
  }
}

/** An instance that goes on running would cost money: only a disk's machine is kept. */
const keepsFailed = ({ base }: MachinePlan, run: BakeRun): boolean => run.keepFailed === true && base.kind === 'disk'

function bakeFailed(
  { phase, reasons, lines }: ReturnType<PackerStory['end']>,
  error: BakeError,
  plan: MachinePlan,
  run: BakeRun,
): BakeError {
  const message = `${phase}: ${reasons.at(-1) ?? error.message}`
  return failed('bake_failed', [message, ...[...lines, ...reasons.slice(0, -1)].map((line) => `  ${line}`)].join('\n'), {
    ...(plan.base.kind === 'disk' && {
      next: keepsFailed(plan, run)
        ? `bake run ${join(run.dir, 'output/disk.qcow2')} --shell    looks into it`
        : 'bake ami --keep-failed keeps the disk to look into',
    }),
    ids: { phase },
    cause: error,
  })
}
