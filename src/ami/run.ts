import { join } from 'node:path'
import type { BootDisk, BootedMachine, MachineBoot, Machines } from './machines.ts'
import { keyCredentials, seedFiles } from './seed-files.ts'

/** As a proof's machines. */
const SHAPE = { memoryMiB: 2048, cpus: 2 }
const SSH_PORT = 22

export interface RunAsk {
  disk: BootDisk
  /** Whose disk it is, as its services are told. */
  release?: { name: string; commit: string }
  /** TCP ports of this machine that lead to the virtual one's. */
  forwards: { host: number; guest: number }[]
  /** Ends with the shell instead of with the signal. */
  shell: boolean
}

export interface RunWorld extends Pick<Machines, 'accelerator' | 'seed' | 'boot'> {
  /** A port of this machine that nobody has. */
  freePort(): Promise<number>
  key(signal: AbortSignal): Promise<AsyncDisposable & { publicKey: string; privateKeyPath: string; knownHostsPath: string }>
  /** A shell of root's, on this process's own terminal; settles with its end. Waits for the machine's SSH server. */
  shell(at: { port: number; privateKeyPath: string; knownHostsPath: string }, signal: AbortSignal): Promise<void>
  /** An empty directory for the machine's files. */
  dir: string
  note(text: string): void
  console(line: string): void
  /** First Ctrl-C: the power button. */
  drain: AbortSignal
  /** Second one: the plug. */
  abort: AbortSignal
}

/**
 * Boots a throwaway copy of a machine's disk and lets it run until it powers itself off, its shell ends, or the signal comes. Throws qemu_failed,
 * tool_missing or firmware_missing (exit 4).
 */
export async function runMachine(ask: RunAsk, world: RunWorld): Promise<void> {
  const { dir, drain, abort } = world
  const { accelerator, why } = await world.accelerator(ask.disk, { dir, signal: drain })
  if (why !== undefined) world.note(`${why}: the machine runs in software emulation, slowly`)
  await using undo = new AsyncDisposableStack()
  const key = ask.shell ? undo.use(await world.key(drain)) : undefined
  const seed = join(dir, 'seed.img')
  const facts = ask.release && { release: ask.release.name, sha: ask.release.commit }
  await world.seed(seed, seedFiles({ instance: 'bake-run', facts: facts ?? {}, ...(key && { rootKey: key.publicKey }) }), drain)
  const shellPort = key && (await world.freePort())
  const options: MachineBoot = {
    ...SHAPE,
    disk: ask.disk,
    network: { hostForwards: [...ask.forwards, ...(shellPort === undefined ? [] : [{ host: shellPort, guest: SSH_PORT }])] },
    seed,
    extraDisks: [],
    accelerator,
    ...(key && { credentials: keyCredentials(key.publicKey) }),
    dir,
    console: world.console,
    signal: abort,
  }
  const machine = undo.use(await world.boot(options))
  for (const { host, guest } of ask.forwards) world.note(`127.0.0.1:${host} leads to the machine's port ${guest}`)
  if (key === undefined || shellPort === undefined) return await untilOver(machine, drain)
  await Promise.race([world.shell({ ...key, port: shellPort }, drain), machine.off()])
  await machine.powerDown()
}

async function untilOver(machine: BootedMachine, drain: AbortSignal): Promise<void> {
  const pressed = () => void machine.powerDown()
  if (drain.aborted) pressed()
  drain.addEventListener('abort', pressed, { once: true })
  try {
    await machine.off()
  } finally {
    drain.removeEventListener('abort', pressed)
  }
}
