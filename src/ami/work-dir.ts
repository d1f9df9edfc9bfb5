import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'

/** Directory of the state directory in which bakes work. */
export const BAKES = 'bakes'

/** What tells a process of a machine from all others: see `processStart` of io/child-record.ts. */
export const processSchema = z.object({ host: z.string(), pid: z.number(), start: z.string() })
export type ProcessId = z.infer<typeof processSchema>

/** Whose directory it is, in the directory. */
const OWNER = '.process.json'

export interface WorkDir extends AsyncDisposable {
  readonly path: string
  /** An empty directory in it. */
  make(name: string): Promise<string>
  /** It stays: `bake prune` removes it later. */
  keep(): void
}

/** `<stateDir>/bakes/<build id>`, removed with all that is in it on every way out but SIGKILL's: `bake prune` does it then. */
export async function openWorkDir(stateDir: string, build: string, process: ProcessId): Promise<WorkDir> {
  const path = join(stateDir, BAKES, build)
  let kept = false
  await mkdir(path, { recursive: true, mode: 0o700 })
  await writeFile(join(path, OWNER), JSON.stringify(process))
  return {
    path,
    async make(name) {
      const dir = join(path, name)
      await mkdir(dir, { recursive: true })
      return dir
    },
    keep() {
      kept = true
    },
    async [Symbol.asyncDispose]() {
      if (!kept) await rm(path, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

/** The process that a work directory is of; undefined when that isn't told. */
export async function ownerOf(dir: string): Promise<ProcessId | undefined> {
  try {
    return processSchema.parse(JSON.parse(await readFile(join(dir, OWNER), 'utf8')))
  } catch {
    return undefined
  }
}
