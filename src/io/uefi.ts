import { existsSync } from 'node:fs'
import { unavailable } from '../errors.ts'

/** Where distributions keep the firmware for virtual machines: code, and the template of its settings. Debian and Ubuntu, Fedora, Arch, Homebrew. */
const FILES = {
  amd64: [
    ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
    ['/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'],
    ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
    ['/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'],
    ['/opt/homebrew/share/qemu/edk2-x86_64-code.fd', '/opt/homebrew/share/qemu/edk2-i386-vars.fd'],
  ],
  arm64: [
    ['/usr/share/AAVMF/AAVMF_CODE.fd', '/usr/share/AAVMF/AAVMF_VARS.fd'],
    ['/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw', '/usr/share/edk2/aarch64/vars-template-pflash.raw'],
    ['/opt/homebrew/share/qemu/edk2-aarch64-code.fd', '/opt/homebrew/share/qemu/edk2-arm-vars.fd'],
  ],
} as const

export interface Uefi {
  code: string
  /** A template: each machine needs a copy of its own. */
  variables: string
}

/** The UEFI of this machine's packages. Throws firmware_missing (exit 4). */
export function findUefi(architecture: 'amd64' | 'arm64'): Uefi {
  const found = FILES[architecture].find((pair) => pair.every((path) => existsSync(path)))
  if (found) return { code: found[0], variables: found[1] }
  throw unavailable('firmware_missing', `the disk boots by UEFI, and no UEFI for ${architecture} machines is installed`, {
    next: `Debian and Ubuntu: apt-get install ${architecture === 'amd64' ? 'ovmf' : 'qemu-efi-aarch64'}`,
  })
}
