import { basename, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DiskBase, MachineEvent } from '../ami/machine.ts'
import type { Project } from './project.ts'

/** Longer than a look at a disk that is known. */
const SOON_MS = 500

/** A disk that machines start from, by its path from bake.yaml's directory here. Throws what inspectDisk throws. */
export async function openDiskBase(
  path: string,
  { dir, stateDir }: Project,
  { signal, tell }: { signal: AbortSignal; tell: (event: MachineEvent) => void },
): Promise<DiskBase> {
  const { inspectDisk } = await import('../io/base-disk.ts')
  const over = new AbortController()
  void sleep(SOON_MS, undefined, { signal: over.signal }).then(
    () => tell({ type: 'note', level: 'info', text: `reading ${basename(path)}: what it is, is remembered`, t: Date.now() }),
    () => {},
  )
  try {
    return await inspectDisk(resolve(dir, path), stateDir, signal)
  } finally {
    over.abort()
  }
}
