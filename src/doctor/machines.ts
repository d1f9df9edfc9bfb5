import type { Config, MachineDefinition } from '../config.ts'
import type { HelperWay } from '../io/disk-helper.ts'
import { qemuProgram } from '../qemu-names.ts'
import { ok, skipped, warning } from './finding.ts'
import type { Check, DoctorWorld, Finding } from './types.ts'

/** What bakes of machine images take on the machine that bakes, which needn't be this one: all of it only warns. */

const FIX = 'sudo bin/setup --machines    installs it on Debian and Ubuntu'

const HELPER = 'docs/direct-bake.md, "Permissions": who mounts disks'
const DEVICES = 'docs/direct-bake.md, "On workers": devices'
const HELPERS: Record<HelperWay, string> = {
  root: 'root, tools and devices are there',
  service: 'a service that mounts disks, and tools are there',
  sudo: 'sudo, tools and devices are there',
}

const packer: Check = {
  id: 'packer',
  run: (world) =>
    withMachines(world, async (machines) => {
      if (world.missingTools(['packer']).length === 0) return ok('installed')
      const direct = machines.every((machine) => isDirect(machine))
      return warning(`not installed: ${direct ? "what can't be baked directly isn't baked" : "AMIs can't be baked here"}`, FIX)
    }),
}

const qemu: Check = {
  id: 'qemu',
  run: (world) =>
    withMachines(world, async (machines) => {
      if (!machines.some(isDirect)) return skipped('AMIs are proven by instances')
      const processor = world.platform.endsWith('arm64') ? 'arm64' : 'amd64'
      const missing = world.missingTools([qemuProgram(processor), 'qemu-img', 'mkfs.vfat', 'mcopy'])
      if (missing.length > 0) return warning(`no ${missing.join(', no ')}: nothing can be proven here`, FIX)
      return (await world.kvm())
        ? ok('with /dev/kvm')
        : warning(
            'no /dev/kvm for this user: machines are emulated, some ten times slower',
            'switch virtualization on; usermod -aG kvm $USER',
          )
    }),
}

const direct: Check = {
  id: 'direct_bakes',
  run: (world) =>
    withMachines(world, async (machines) => {
      const asked = machines.filter(({ baker }) => baker !== 'packer')
      if (!asked.some(isDirect)) return skipped('Packer bakes')
      if (!world.linux) return warning('Linux only: Packer bakes', 'bake on Linux')
      const helper = await world.diskHelper()
      const missing = world.missingForDisks(helper)
      const lacking = [...(helper ? [] : ['nobody mounts disks for this user']), ...missing.map((name) => `no ${name}`)]
      if (helper && lacking.length === 0) return ok(HELPERS[helper])
      const programs = missing.some((name) => !name.startsWith('/dev/')) ? FIX : undefined
      const devices = missing.some((name) => name.startsWith('/dev/')) ? DEVICES : undefined
      return warning(
        `${lacking.join(', ')}: Packer bakes, slowly`,
        [programs, helper ? undefined : HELPER, devices].filter(Boolean).join('; '),
      )
    }),
}

/** Disks unless Packer is asked for, AMIs where `direct` is. What is baked so, and any disk, is proven where it is baked. */
const isDirect = ({ base, baker }: Machine): boolean => 'disk' in base || baker === 'direct'

type Machine = Pick<MachineDefinition, 'base' | 'baker'>

async function withMachines(world: DoctorWorld, check: (machines: Machine[]) => Promise<Finding>): Promise<Finding> {
  const machine: Config['machine'] | undefined = (await world.config().catch(() => undefined))?.machine
  if (machine === undefined) return skipped('no machine: in bake.yaml')
  return check([machine, ...machine.also.map(({ base }) => ({ ...machine, base }))])
}

export const machineChecks: Check[] = [packer, qemu, direct]
