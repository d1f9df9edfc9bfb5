import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { unavailable } from '../errors.ts'
import { qemuProgram } from '../qemu-names.ts'
import { spawnChild } from './child.ts'
import { ConsoleLines } from './console-lines.ts'
import { followFile } from './follow-file.ts'
import { type ExtraDisk, type MachineNetwork, machineArguments } from './qemu-arguments.ts'
import type { Backing } from './qemu-img.ts'
import { askQemu } from './qmp.ts'
import { orToolMissing, toolEnvironment } from './tool.ts'
import { findUefi } from './uefi.ts'

/** A machine in software emulation stops its services in 5 to 10 s; one that hangs is switched off. */
const POWER_DOWN_MS = 30_000
const CONSOLE = 'console'

export interface BootOptions {
  disk: Backing
  architecture: 'amd64' | 'arm64'
  firmware: 'bios' | 'uefi'
  network: MachineNetwork
  /** A file system image with `user-data` (makeSeed). */
  seed?: string
  extraDisks?: ExtraDisk[]
  memoryMiB: number
  cpus: number
  accelerator: 'kvm' | 'tcg'
  credentials?: Record<string, string>
  /** A directory for this machine's own files, which are gone with it. What it writes to its disks lies there too, without a name. */
  dir: string
  /** Each line of the serial console, without control sequences. */
  console(line: string): void
  signal?: AbortSignal | undefined
}

/** A virtual machine that runs. Disposing pulls its plug. */
export interface Machine extends AsyncDisposable {
  readonly pid: number
  /** The console's last lines. */
  last(): string[]
  /** Settles when the machine is off: by itself, or because it was ended. Throws qemu_failed (exit 4) when QEMU didn't run, the signal's reason when aborted. */
  off(): Promise<void>
  /** Presses the power button, and pulls the plug when that did nothing for 30 s. */
  powerDown(): Promise<void>
  /** Asks QEMU itself (QMP). */
  ask(command: string, args?: object): Promise<unknown>
}

/**
 * Switches a virtual machine on. The disk isn't changed: what the machine writes is thrown away. QEMU dies with this process, whatever ends that.
 * Throws tool_missing or firmware_missing (exit 4).
 */
export async function bootMachine(options: BootOptions): Promise<Machine> {
  options.signal?.throwIfAborted()
  const own = await mkdtemp(join(options.dir, 'machine-'))
  try {
    return await start(own, options)
  } catch (error) {
    await rm(own, { recursive: true, force: true })
    throw error
  }
}

async function start(own: string, options: BootOptions): Promise<Machine> {
  const command = qemuProgram(options.architecture)
  const seed: ExtraDisk[] = options.seed === undefined ? [] : [{ path: options.seed, format: 'raw', serial: 'bake-seed' }]
  const args = machineArguments({
    ...options,
    credentials: options.credentials ?? {},
    // QEMU works in the machine's own directory.
    disk: { ...options.disk, path: resolve(options.disk.path) },
    extraDisks: [...(options.extraDisks ?? []), ...seed].map((extra) => ({ ...extra, path: resolve(extra.path) })),
    ...(await uefiOf(own, options)),
    console: CONSOLE,
    control: 'qmp',
  })
  const lines = new ConsoleLines(options.console)
  const child = launch(command, args, own, options.signal)
  const console = await followFile(join(own, CONSOLE), (data) => lines.push(data))
  let said = ''
  child.stderr!.on('data', (data: Buffer) => {
    said = (said + data).slice(-2000)
  })
  const read = new Promise((resolve) => child.stderr!.once('close', resolve))
  let ending = false
  const ended = (async () => {
    const exit = await child.exited
    await read
    await console.end()
    lines.end()
    await rm(own, { recursive: true, force: true })
    if (exit.code === 0 || ending || options.signal?.aborted) return undefined
    const why = said.replaceAll(`${command}: `, '').trim() || exit.error?.message || `it ended with ${exit.signal ?? exit.code}`
    return unavailable('qemu_failed', `${command}: ${why}`, { next: nextStep(said), ids: { qemu: command } })
  })()
  const ask = (execute: string, more?: object) => askQemu(join(own, 'qmp'), execute, more)
  const pullThePlug = async () => {
    ending = true
    await child.end()
    await ended
  }
  return {
    pid: child.pid,
    last: () => lines.last,
    async off() {
      const error = await ended
      options.signal?.throwIfAborted()
      if (error) throw error
    },
    async powerDown() {
      ending = true
      await ask('system_powerdown').catch(() => {})
      const timer = setTimeout(() => void pullThePlug(), POWER_DOWN_MS)
      await ended
      clearTimeout(timer)
    },
    ask,
    [Symbol.asyncDispose]: pullThePlug,
  }
}

function launch(command: string, args: string[], own: string, signal: AbortSignal | undefined) {
  try {
    // TMPDIR is where QEMU keeps what is thrown away.
    const env = { ...toolEnvironment(), TMPDIR: own }
    return spawnChild(command, args, { cwd: own, env, stderr: 'pipe', signal })
  } catch (error) {
    throw orToolMissing(error, command)
  }
}

/** A UEFI keeps its settings in flash memory: each machine gets its own. */
async function uefiOf(own: string, { architecture, firmware }: BootOptions) {
  if (firmware === 'bios') return {}
  const found = findUefi(architecture)
  const variables = join(own, 'variables.fd')
  await copyFile(found.variables, variables)
  return { uefi: { code: found.code, variables } }
}

const nextStep = (said: string): string =>
  /Could not set up host forwarding/.test(said)
    ? 'a port is in use, or below 1024 and not yours: forward another one'
    : /Cannot allocate memory/.test(said)
      ? 'free some memory'
      : 'see its message'

/** What this boot of this machine is called (proc(5)): what was found out about its virtualisation holds until the next one. */
export const bootId = async (): Promise<string> =>
  (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')).trim()
