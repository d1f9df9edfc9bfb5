import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'

/** Everything below a directory: path → type, permissions and content. Empty directories count. */
export async function snapshot(dir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const path of (await readdir(dir, { recursive: true })).sort()) {
    const at = join(dir, path)
    const stats = await lstat(at)
    const mode = (stats.mode & 0o7777).toString(8)
    if (stats.isSymbolicLink()) found[path] = `link ${await readlink(at)}`
    else if (stats.isDirectory()) found[path] = `directory ${mode}`
    else found[path] = stats.isFile() ? `file ${mode} ${(await readFile(at)).toString('latin1')}` : `special ${mode}`
  }
  return found
}
