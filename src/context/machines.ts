import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { standInTag } from '../ami/machine.ts'
import type { BootDisk, Machines } from '../ami/machines.ts'
import { BakeError } from '../errors.ts'
import { lookAtDisk } from '../io/base-disk.ts'
import { bootMachine } from '../io/qemu.ts'
import { chooseAccelerator } from '../io/qemu-accelerator.ts'
import { saveImages } from '../io/save-images.ts'
import { makeSeed } from '../io/seed.ts'
import { sha256 } from '../names.ts'
import { openProject, type Project } from './project.ts'

/** QEMU's machines, with what was found out about this one kept in `stateDir`. */
export const qemuMachines = (stateDir: string): Machines => ({
  accelerator: (disk, { dir, signal }) => chooseAccelerator({ ...disk, disk, dir, signal, stateDir }),
  seed: makeSeed,
  saveImages(path, images, architecture, signal) {
    const named = images.map((image) => ({ reference: `${image.repository}@${image.digest}`, name: standInTag(image.digest) }))
    return saveImages(path, named, architecture, signal)
  },
  boot: ({ disk, ...rest }) => bootMachine({ ...rest, disk, architecture: disk.architecture, firmware: disk.firmware }),
})

/** A disk by its path, as it boots. Throws what lookAtDisk throws. `kernel`: names its kernel, where its base is known. */
export async function bootDisk(path: string, kernel?: string, signal?: AbortSignal): Promise<BootDisk> {
  const absolute = resolve(path)
  const { format, architecture, firmware } = await lookAtDisk(absolute, signal)
  return { path: absolute, format, architecture, firmware, kernel: kernel ?? sha256(absolute) }
}

/** Whether an argument that may name a release names a file: a release's name has no suffix of a disk, and a path's beginning none of a release. */
export const isDiskPath = (text: string): boolean => /^\.{0,2}\//.test(text) || /\.(?:raw|qcow2|img)$/.test(text)

/** The project around, and where a disk outside of one has its state. */
export async function projectOrNone(): Promise<{ project?: Project; stateDir: string }> {
  try {
    const project = await openProject()
    return { project, stateDir: project.stateDir }
  } catch (error) {
    if (!(error instanceof BakeError && error.code === 'config_missing')) throw error
    const { BAKE_STATE_DIR, XDG_CACHE_HOME } = process.env
    return { stateDir: resolve(BAKE_STATE_DIR || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'bakehouse')) }
  }
}
