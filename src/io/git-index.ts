import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

/**
 * Whether an index is what git once wrote: it ends in the hash of all before it (gitformat-index(5)). git itself only looks at the header, and would
 * take a damaged entry for a file that needs no writing.
 */
export async function isIndexSound(file: string, algorithm: 'sha1' | 'sha256'): Promise<boolean> {
  const bytes = await readFile(file).catch(() => undefined)
  const length = algorithm === 'sha1' ? 20 : 32
  if (bytes === undefined || bytes.length < 12 + length) return false
  const body = bytes.subarray(0, -length)
  return createHash(algorithm).update(body).digest().equals(bytes.subarray(-length))
}
