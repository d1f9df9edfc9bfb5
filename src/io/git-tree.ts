import type { TreeEntry } from './git-objects.ts'

/**
 * The entry `name` of a raw tree object: `<octal mode> SP <name> NUL <binary id>`, repeated (gitformat: Pro Git, "Git Objects"). Names are compared as
 * bytes. `idBytes`: 20, or 32 in a SHA-256 repository.
 */
export function findInTree(tree: Buffer, name: string, idBytes: number): { mode: string; oid: string } | undefined {
  const wanted = Buffer.from(name)
  for (let at = 0; at < tree.length; ) {
    const space = tree.indexOf(32, at)
    const end = tree.indexOf(0, space + 1)
    if (space < 0 || end < 0) return undefined
    if (end - space - 1 === wanted.length && tree.compare(wanted, 0, wanted.length, space + 1, end) === 0)
      return { mode: tree.toString('latin1', at, space).padStart(6, '0'), oid: tree.toString('hex', end + 1, end + 1 + idBytes) }
    at = end + 1 + idBytes
  }
  return undefined
}

/** All entries of a raw tree object, in git's order; `path` is the name. */
export function parseTree(tree: Buffer, idBytes: number): TreeEntry[] {
  const entries: TreeEntry[] = []
  for (let at = 0; at < tree.length; ) {
    const space = tree.indexOf(32, at)
    const end = tree.indexOf(0, space + 1)
    if (space < 0 || end < 0) return entries
    const mode = tree.toString('latin1', at, space).padStart(6, '0')
    at = end + 1 + idBytes
    entries.push({ path: tree.toString('utf8', space + 1, end), mode, oid: tree.toString('hex', end + 1, at) })
  }
  return entries
}
