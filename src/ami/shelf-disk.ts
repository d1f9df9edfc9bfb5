import { mkdir, open, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { errnoOf } from '../errors.ts'
import { backingOf, standsOn } from '../qcow2.ts'
import type { Baked, Shelf } from './machine.ts'

/** Directory of the state directory that holds the disks of machines. */
export const MACHINES = 'machines'
/** Digits of an inputs hash that name its directory. */
const SHORT = 16

/** `<inputs 16>/disk-<n>.<format>` below `machines`. A claim has a file of its own, so that whoever lost one never overwrites what was published. */
const fileOf = (inputs: string, n: number, format: string): string => join(inputs.slice(0, SHORT), `disk-${n}.${format}`)

const own = (baked: Baked) => {
  if (baked.kind === 'disk') return baked
  throw new Error(`${baked.id} is no disk`)
}

/** Whether a disk is there, and all that it stands on. */
export async function hasDisk({ path, sizeBytes }: { path: string; sizeBytes: number }): Promise<boolean> {
  try {
    const found = await stat(path)
    if (!found.isFile() || found.size !== sizeBytes) return false
    await standsOn(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false
    throw error
  }
}

/** Names what a qcow2 file holds the differences to, and changes nothing else. */
export type Rebase = (path: string, backing: string) => Promise<void>

/** Disks of this machine, in its state directory. One may stand on others there, which it names from where it lies: the directory can be moved. */
export function diskShelf(stateDir: string, rebase: Rebase): Shelf {
  const root = join(stateDir, MACHINES)
  return {
    has: (baked) => hasDisk(own(baked)),
    async keep(baked, { inputs }, n) {
      const disk = own(baked)
      const path = join(root, fileOf(inputs, n, disk.format))
      await mkdir(dirname(path), { recursive: true })
      const backing = await backingOf(disk.path)
      if (backing !== undefined) await rebase(disk.path, relative(dirname(path), backing))
      // A power cut must not leave a published disk of zeros.
      await sync(disk.path)
      await rename(disk.path, path)
      await sync(dirname(path))
      return { ...disk, path, sizeBytes: (await stat(path)).size }
    },
    async discard(baked) {
      const { path } = own(baked)
      await rm(path, { force: true })
      if (basename(dirname(dirname(path))) === MACHINES) await rmdir(dirname(path)).catch(() => {})
    },
  }
}

async function sync(path: string): Promise<void> {
  await using file = await open(path)
  await file.sync()
}
