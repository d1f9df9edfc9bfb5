/** The program that plays a machine of this architecture. */
export const qemuProgram = (architecture: 'amd64' | 'arm64'): string =>
  architecture === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64'

/**
 * QEMU's -cpu. In software emulation `rep movsb` goes byte by byte, and a kernel that sees ERMS or FSRM copies everything with it: without these
 * flags copies within a virtual machine take half as long.
 */
export function cpuModel(architecture: string, accelerator: 'kvm' | 'tcg'): string {
  if (accelerator === 'kvm') return 'host'
  return architecture === 'amd64' ? 'max,erms=off,fsrm=off' : 'max'
}
