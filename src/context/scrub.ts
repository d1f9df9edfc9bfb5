import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BAKES, ownerOf } from '../ami/work-dir.ts'
import { whileIdle } from '../jobs/idle.ts'
import type { Slots } from '../jobs/slots.ts'
import { hasEnded } from './whoami.ts'
import type { WorkerOptions } from './worker.ts'

interface ScrubOptions extends Pick<WorkerOptions, 'drain' | 'onProblem'> {
  stateDir: string
  slots: readonly Slots[]
}

/** On one machine a worker that nobody needs ends after 10 s: it begins soon, and does a part. */
const LOOK_MS = 3_000
const LIMIT_MS = 5_000
/** How soon a bake of another process has the machine to itself. */
const BAKE_LOOK_MS = 500
/** Of the time, reading and hashing: some 50 MiB a second of a fast disk, and nobody notices. */
const SHARE = 0.1

/** Reads the disks that bakes keep here against their hashes, while nothing is built or baked. What it gives ends that. */
export function scrubWhenIdle({ stateDir, drain, slots, onProblem }: ScrubOptions): AsyncDisposable {
  const ended = new AbortController()
  const scrub = async (signal: AbortSignal) => {
    if (await isBaking(stateDir)) return
    const [{ scrubDisks }, { openLayers }] = await Promise.all([import('../ami/direct/scrub.ts'), import('../io/disk-layers.ts')])
    const world = { stateDir, layers: openLayers, now: Date.now, onProblem, share: SHARE, limitMs: LIMIT_MS }
    const bake = new AbortController()
    const look = async () => {
      if (await isBaking(stateDir)) bake.abort()
    }
    const timer = setInterval(() => void look(), BAKE_LOOK_MS).unref()
    try {
      await scrubDisks(world, AbortSignal.any([signal, bake.signal]))
    } finally {
      clearInterval(timer)
    }
  }
  const problem = (text: string) => onProblem(`kept disks can't be read: ${text}`)
  const signal = AbortSignal.any([drain, ended.signal])
  const scrubbing = whileIdle({ slots, everyMs: LOOK_MS, work: scrub, onProblem: problem }, signal)
  return {
    async [Symbol.asyncDispose]() {
      ended.abort()
      await scrubbing
    },
  }
}

/** Whether a bake of whatever process works in this state directory. Never throws. */
async function isBaking(stateDir: string): Promise<boolean> {
  const names = await readdir(join(stateDir, BAKES)).catch(() => [])
  const owners = await Promise.all(names.map((name) => ownerOf(join(stateDir, BAKES, name))))
  return owners.some((owner) => owner !== undefined && !hasEnded(owner))
}
