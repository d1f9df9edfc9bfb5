import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type MadeBase, makeBase } from '../../src/context/base.ts'
import { BakeError } from '../../src/errors.ts'
import { sha256 } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'

const fromRoot = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
/** Ignored by git; a disk of another script than today's is removed. */
const CACHE = fromRoot('.cache/base')
/** Making one takes a minute or two. */
const MADE_MS = 600_000

/** The disk that `bake base` makes, made once for all test files: boot throwaway copies of it, and write nothing to it. Needs root. */
export async function baseDisk(): Promise<MadeBase> {
  const name = sha256(await readFile(fromRoot('templates/base/debian.sh'))).slice(0, 16)
  await mkdir(CACHE, { recursive: true })
  for (const other of await readdir(CACHE)) if (other !== name) await rm(join(CACHE, other), { recursive: true, force: true })
  const signal = AbortSignal.timeout(MADE_MS)
  const make = () => makeBase({ out: join(CACHE, name, 'base.raw'), size: '4GB', emit: () => {}, signal })
  return waitFor(() => make().catch(unlessBusy), { what: 'the base disk', deadlineMs: MADE_MS, intervalMs: 1000, signal })
}

/** Another test file makes it. */
function unlessBusy(error: unknown): undefined {
  if (!(error instanceof BakeError && error.code === 'base_busy')) throw error
}
