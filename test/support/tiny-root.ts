import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { RepoFiles } from './repo.ts'

/**
 * A root file system below `dir` of this machine's `sh` and a few more programs with their libraries (about 2.5 MB): what an engine without a base image can RUN,
 * after `FROM scratch` and `COPY <dir> /`.
 */
export async function tinyRoot(dir: string, programs: string[] = []): Promise<RepoFiles> {
  const paths = ['/bin/sh', ...programs.map((name) => `/usr/bin/${name}`)]
  const { stdout } = await promisify(execFile)('ldd', paths)
  const libraries = [...stdout.matchAll(/(\/lib\S+) \(0x/g)].map(([, path]) => path!)
  const files = [...new Set([...paths, ...libraries])].map(
    async (path) => [join(dir, path.replace(/^\/usr/, '')), { executable: await readFile(path) }] as const,
  )
  return Object.fromEntries(await Promise.all(files))
}
