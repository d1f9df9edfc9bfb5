import type { Architecture, ImageReference } from './machine.ts'

/** A disk that boots. */
export interface BootDisk {
  path: string
  format: 'raw' | 'qcow2'
  architecture: Architecture
  firmware: 'bios' | 'uefi'
  /** Names the kernel: the hash of the base that it came with. */
  kernel: string
}

export interface MachineBoot {
  disk: BootDisk
  /** `none`: no card. `dead`: DHCP answers, and then nobody. Else NAT, with ports of this machine that lead inside. */
  network: 'none' | 'dead' | { hostForwards: { host: number; guest: number }[] }
  seed: string
  extraDisks: { path: string; format: 'raw'; serial: string }[]
  memoryMiB: number
  cpus: number
  accelerator: 'kvm' | 'tcg'
  credentials?: Record<string, string>
  dir: string
  /** A line of the serial console. */
  console(line: string): void
  signal: AbortSignal
}

export interface BootedMachine extends AsyncDisposable {
  /** The console's last lines. */
  last(): string[]
  /** Settles when it is off. */
  off(): Promise<void>
  /** Presses the power button, and pulls the plug when that does nothing. */
  powerDown(): Promise<void>
}

/** Virtual machines of this machine. What they write to their disks is thrown away. */
export interface Machines {
  /** How machines of this disk run here. `why`: why not in hardware. */
  accelerator(disk: BootDisk, run: { dir: string; signal: AbortSignal }): Promise<{ accelerator: 'kvm' | 'tcg'; why?: string }>
  /** Writes a NoCloud seed with these files to `path`. */
  seed(path: string, files: Record<string, string>, signal: AbortSignal): Promise<void>
  /** Writes images to the tar file `path`, as `docker load` takes them, under the names of `standInTag`. */
  saveImages(path: string, images: ImageReference[], architecture: Architecture, signal: AbortSignal): Promise<void>
  boot(options: MachineBoot): Promise<BootedMachine>
}
