import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { BakeError } from '../errors.ts'
import { prepareStateDir, writeAtomic } from './host/state-dir.ts'
import { type BootOptions, bootId, bootMachine } from './qemu.ts'

/** docs/design.md §8: a /dev/kvm that works brings a kernel to its first line in a fraction of this. */
const FIRST_LINE_MS = 5_000
/** A boot loader that waits for a key shows that it lives, and gets this much in all. */
const LOADER_MS = 15_000
/** What only a kernel or what it started says. */
const KERNEL_LINE = /^\[\s*\d+\.\d{6}\]|Linux version |systemd\[1\]|Welcome to .*!|\blogin:/
const FILE = 'accelerators.json'

export type Accelerator = 'kvm' | 'tcg'

export interface AcceleratorChoice {
  accelerator: Accelerator
  /** Why software emulates the machine; undefined when nothing does. */
  why?: string
}

/** By kernel: what was found out since this machine was booted. */
const cacheSchema = z.object({ boot: z.string(), found: z.record(z.string(), z.enum(['kvm', 'tcg'])) })

export interface AcceleratorQuestion extends Pick<BootOptions, 'disk' | 'architecture' | 'firmware' | 'dir' | 'signal'> {
  /** Names the disk's kernel: the hash of the base that it came with. */
  kernel: string
  /** Keeps the answer. */
  stateDir: string
  env?: NodeJS.ProcessEnv
}

/**
 * KVM if this machine's processor has the guest's architecture, /dev/kvm opens and the disk's own kernel gets to its first console line under it within
 * 5 s; else software emulation. Tried once per kernel and boot of this machine. BAKE_ACCELERATOR (kvm or tcg) decides without a trial.
 */
export async function chooseAccelerator(question: AcceleratorQuestion): Promise<AcceleratorChoice> {
  const { env = process.env, architecture } = question
  if (env.BAKE_ACCELERATOR === 'kvm') return { accelerator: 'kvm' }
  if (env.BAKE_ACCELERATOR === 'tcg') return { accelerator: 'tcg', why: 'BAKE_ACCELERATOR=tcg' }
  const own = process.arch === 'x64' ? 'amd64' : process.arch
  if (architecture !== own) return { accelerator: 'tcg', why: `this machine is ${own}, the disk ${architecture}` }
  const opens = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )
  if (!opens) return { accelerator: 'tcg', why: 'no /dev/kvm that this user may open' }
  const found = await remembered(question)
  return found === 'kvm' ? { accelerator: 'kvm' } : { accelerator: 'tcg', why: 'KVM is here, but boots no kernel' }
}

async function remembered(question: AcceleratorQuestion): Promise<Accelerator> {
  const path = join(question.stateDir, FILE)
  const boot = await bootId()
  const cached = await readCache(path)
  const known = cached?.boot === boot ? cached.found : {}
  const already = known[question.kernel]
  if (already !== undefined) return already
  const accelerator = (await bootsUnderKvm(question)) ? 'kvm' : 'tcg'
  await prepareStateDir(question.stateDir)
  await writeAtomic(path, JSON.stringify({ boot, found: { ...known, [question.kernel]: accelerator } }))
  return accelerator
}

async function readCache(path: string): Promise<z.infer<typeof cacheSchema> | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '')
  try {
    return cacheSchema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** Boots the disk until its kernel speaks, or nothing does for 5 s. */
async function bootsUnderKvm({ disk, architecture, firmware, dir, signal }: AcceleratorQuestion): Promise<boolean> {
  let spoke = (_kernel: boolean): void => {}
  const first = new Promise<boolean>((resolve) => {
    spoke = resolve
  })
  let timer = setTimeout(() => spoke(false), FIRST_LINE_MS)
  const end = setTimeout(() => spoke(false), LOADER_MS)
  try {
    await using machine = await bootMachine({
      disk,
      architecture,
      firmware,
      dir,
      signal,
      network: 'none',
      memoryMiB: 512,
      cpus: 1,
      accelerator: 'kvm',
      console(line) {
        clearTimeout(timer)
        timer = setTimeout(() => spoke(false), FIRST_LINE_MS)
        if (KERNEL_LINE.test(line)) spoke(true)
      },
    })
    // A KVM that QEMU itself can't use ends it at once.
    const over = machine.off().then(
      () => false,
      () => false,
    )
    const boots = await Promise.race([first, over])
    signal?.throwIfAborted()
    return boots
  } catch (error) {
    if (error instanceof BakeError && error.code === 'qemu_failed') return false
    throw error
  } finally {
    clearTimeout(timer)
    clearTimeout(end)
  }
}
