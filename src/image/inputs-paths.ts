import { refused } from '../errors.ts'
import type { GitObjects, TreeEntry } from '../io/git-objects.ts'

/** As many as Linux follows in one path (path_resolution(7)). */
const MAX_LINKS = 40

const LINK = '120000'
export const TREE = '040000'

/** `dir/` + `path`, without `.` components. Throws bad_path (exit 2) for an absolute path or one with `..`. */
export function joinPath(directory: string, path: string, what: string): string {
  if (path.startsWith('/') || /^[a-zA-Z]:[\\/]/.test(path) || path.split('/').includes('..') || /[\0\r\n]/.test(path))
    throw refused('bad_path', `${what} "${path}" leaves its directory`, {
      next: 'name a path below it: no leading /, no ..; what is outside can be a named context (contexts:)',
      ids: { path },
    })
  return [...directory.split('/'), ...path.split('/')].filter((part) => part !== '' && part !== '.').join('/')
}

/**
 * The entry at `path`, symbolic links followed inside the commit's tree; undefined when there is none. Throws symlink_escapes (exit 2) when a link
 * leaves the tree: nobody but this machine knows what is there.
 */
export async function followPath(
  objects: GitObjects,
  commit: string,
  path: string,
  what: string,
): Promise<TreeEntry | undefined> {
  // Nearly always there is no link on the way: one look-up.
  const direct = await objects.entry(commit, path)
  if (direct && direct.mode !== LINK) return direct
  const waiting = path.split('/')
  const done: string[] = []
  for (let links = 0; waiting.length > 0; ) {
    const part = waiting.shift()!
    if (part === '' || part === '.') continue
    if (part === '..') {
      if (done.pop() === undefined) throw escapes(path, what)
      continue
    }
    const here = [...done, part].join('/')
    const entry = await objects.entry(commit, here)
    if (!entry) return undefined
    if (entry.mode !== LINK) {
      done.push(part)
      continue
    }
    const target = Buffer.from((await objects.file(commit, here)) ?? []).toString('utf8')
    if (target.startsWith('/') || ++links > MAX_LINKS) throw escapes(path, what, target)
    waiting.unshift(...target.split('/'))
  }
  return objects.entry(commit, done.join('/'))
}

const escapes = (path: string, what: string, target?: string) =>
  refused(
    'symlink_escapes',
    `${what} "${path}" is behind a symbolic link that leaves the repository${target ? ` (to ${target})` : ''}`,
    {
      next: 'put the file itself into the repository',
      ids: { path },
    },
  )

/** All directories from the root ('') down to the one above `path`. */
export function directoriesAbove(path: string): string[] {
  const parts = path === '' ? [] : path.split('/')
  return parts.map((_, i) => parts.slice(0, i).join('/'))
}

export const inDirectory = (directory: string, name: string): string => (directory === '' ? name : `${directory}/${name}`)
