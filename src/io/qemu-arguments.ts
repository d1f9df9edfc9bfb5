import { cpuModel } from '../qemu-names.ts'
import type { Backing } from './qemu-img.ts'

/** A TCP port of this machine that leads to one of the virtual machine. */
export interface HostForward {
  /** 127.0.0.1 unless told. */
  address?: string
  host: number
  guest: number
}

/**
 * `none`: no card. `dead`: a card that gets an address, a route and a nameserver by DHCP, and from then on no answer from anybody. Else a card behind NAT,
 * which this machine (10.0.2.2 to it) and the outside can be reached through.
 */
export type MachineNetwork = 'none' | 'dead' | { hostForwards: HostForward[] }

export interface ExtraDisk extends Backing {
  /** As /sys/block/nvme…/device/serial shows it; at most 20 characters (NVMe, Identify Controller). */
  serial: string
}

export interface MachineShape {
  disk: Backing
  architecture: 'amd64' | 'arm64'
  /** Files of a UEFI, `variables` being this machine's own copy; without: BIOS. */
  uefi?: { code: string; variables: string }
  network: MachineNetwork
  /** Disks after the first, read-only. */
  extraDisks: ExtraDisk[]
  memoryMiB: number
  cpus: number
  accelerator: 'kvm' | 'tcg'
  /** systemd credentials by name (systemd.system-credentials(7)), handed over as SMBIOS strings. */
  credentials: Record<string, string>
  /** File that the serial console is written to: a reader that is too slow for a pipe costs letters of it. From QEMU's working directory; none: stdout. */
  console?: string
  /** Path of QMP's socket, from QEMU's working directory. */
  control?: string
}

/** In QEMU's option lists a comma ends a value unless it is doubled. */
const quoted = (value: string): string => value.replaceAll(',', ',,')

/**
 * QEMU's arguments (qemu(1)). All disks are NVMe, as an EC2 instance's are; what is written to them is thrown away at the end (`snapshot=on`: a file in
 * $TMPDIR that has no name from the start on).
 */
export function machineArguments(shape: MachineShape): string[] {
  const { uefi, accelerator, credentials, control } = shape
  return [
    ...['-machine', shape.architecture === 'amd64' ? 'q35' : 'virt', '-accel', accelerator],
    ...['-cpu', cpuModel(shape.architecture, accelerator), '-smp', String(shape.cpus), '-m', String(shape.memoryMiB)],
    // A machine that wants to start again has crashed or been told to: either way this boot is over.
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...[
      '-chardev',
      shape.console === undefined ? 'stdio,id=console,signal=off' : `file,id=console,path=${quoted(shape.console)}`,
    ],
    ...['-serial', 'chardev:console'],
    ...(control === undefined ? [] : ['-qmp', `unix:${quoted(control)},server=on,wait=off`]),
    ...(uefi === undefined ? [] : [...flash(uefi.code, true), ...flash(uefi.variables, false)]),
    ...disk('root', { ...shape.disk, serial: 'bake-root' }, ',bootindex=0'),
    ...shape.extraDisks.flatMap((extra, i) => disk(`extra${i}`, extra)),
    ...network(shape.network),
    // An entropy source: a first boot makes keys.
    ...['-device', 'virtio-rng-pci'],
    ...Object.entries(credentials).flatMap(([name, value]) => [
      '-smbios',
      `type=11,value=io.systemd.credential.binary:${name}=${Buffer.from(value).toString('base64')}`,
    ]),
  ]
}

const flash = (file: string, readOnly: boolean): string[] => [
  '-drive',
  `if=pflash,format=raw,readonly=${readOnly ? 'on' : 'off'},file=${quoted(file)}`,
]

const disk = (id: string, { path, format, serial }: ExtraDisk, more = ''): string[] => [
  '-drive',
  `if=none,id=${id},format=${format},snapshot=on,discard=unmap,file=${quoted(path)}`,
  '-device',
  `nvme,drive=${id},serial=${serial}${more}`,
]

function network(kind: MachineNetwork): string[] {
  if (kind === 'none') return ['-nic', 'none']
  const options =
    kind === 'dead'
      ? // DHCP answers, everything else is dropped (libslirp, `restricted`): names time out, connections hang.
        ',restrict=on'
      : kind.hostForwards.map(({ address = '127.0.0.1', host, guest }) => `,hostfwd=tcp:${address}:${host}-:${guest}`).join('')
  return ['-netdev', `user,id=net,ipv6=off${options}`, '-device', 'virtio-net-pci,netdev=net,romfile=']
}
