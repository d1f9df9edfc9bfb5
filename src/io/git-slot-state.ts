import { readFile, rename, rm, writeFile } from 'node:fs/promises'

/** What a work tree may hold, kept beside its index so that the next move knows, also when this one was killed. */
export interface SlotState {
  /** The commit that it is at; while it moves, also the one it goes to, and those of moves that were interrupted. */
  commits: string[]
  /** Whether LFS pointers were replaced by what they point to. */
  lfs: boolean
  /** Submodules that were checked out, by path. */
  submodules: string[]
}

/** Undefined when there is none, or nothing that can be believed: the tree is then written anew. */
export async function readState(file: string): Promise<SlotState | undefined> {
  try {
    const { commits, lfs, submodules } = JSON.parse(await readFile(file, 'utf8')) as SlotState
    const strings = [commits, submodules].every((list) => Array.isArray(list) && list.every((item) => typeof item === 'string'))
    return strings && typeof lfs === 'boolean' ? { commits, lfs, submodules } : undefined
  } catch {
    return undefined
  }
}

export async function writeState(file: string, state: SlotState): Promise<void> {
  await writeFile(`${file}.new`, JSON.stringify(state))
  await rename(`${file}.new`, file)
}

export const removeState = (file: string): Promise<void> => rm(file, { force: true })
