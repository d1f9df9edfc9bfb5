import { refused } from '../errors.ts'
import type { GitObjects, TreeEntry } from '../io/git-objects.ts'
import { directoriesAbove, inDirectory } from './inputs-paths.ts'

const SUBMODULE = '160000'
const isFile = ({ mode }: TreeEntry) => mode === '100644' || mode === '100755'
/** First line of a pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md */
const POINTER = 'version https://git-lfs.github.com/spec/v1'
/** Read at once, so that a tree of many LFS files is not held in memory. */
const READS_AT_ONCE = 16

/**
 * Refuses a context that is incomplete without more than git's own checkout: submodule_content or lfs_content (exit 2), each with its setting.
 * The whole tree is listed, because a .gitattributes or a submodule can lie anywhere in it (8,000 files: about 30 ms through the git process that runs
 * anyway); blobs are read only where an attribute says LFS.
 */
export async function refuseSpecialFiles(
  objects: GitObjects,
  commit: string,
  directory: string,
  settings: { submodules: boolean; lfs: boolean; image: string },
): Promise<void> {
  if (settings.submodules && settings.lfs) return
  const entries = await objects.tree(commit, directory)
  const submodule = settings.submodules ? undefined : entries.find(({ mode }) => mode === SUBMODULE)
  if (submodule) {
    const path = inDirectory(directory, submodule.path)
    throw refused(
      'submodule_content',
      `the context of ${settings.image} holds the submodule ${path}, which would be empty in the image`,
      {
        next: `set images.${settings.image}.submodules: true in bake.yaml, or take the submodule out of the context`,
        ids: { image: settings.image, path },
      },
    )
  }
  if (settings.lfs) return
  const pointer = await firstPointer(objects, commit, directory, entries)
  if (pointer === undefined) return
  throw refused('lfs_content', `${pointer} is a Git LFS pointer: the image would get the pointer's text, not the file`, {
    next: `set images.${settings.image}.lfs: true in bake.yaml, or take the file out of the context`,
    ids: { image: settings.image, path: pointer },
  })
}

interface Rule {
  matches: (path: string) => boolean
  lfs: boolean
}

async function firstPointer(
  objects: GitObjects,
  commit: string,
  directory: string,
  entries: TreeEntry[],
): Promise<string | undefined> {
  const above = [...directoriesAbove(directory)].map((dir) => inDirectory(dir, '.gitattributes'))
  const inside = entries
    .filter((entry) => isFile(entry) && /(?:^|\/)\.gitattributes$/.test(entry.path))
    .map(({ path }) => inDirectory(directory, path))
    .sort((a, b) => a.split('/').length - b.split('/').length)
  const rules: Rule[] = []
  const macros = new Set<string>()
  for (const path of [...above, ...inside]) {
    const text = Buffer.from((await objects.file(commit, path)) ?? []).toString('utf8')
    if (/filter|\[attr\]/.test(text) || [...macros].some((macro) => text.includes(macro)))
      rules.push(...parseAttributes(text, path, macros))
  }
  if (!rules.some(({ lfs }) => lfs)) return undefined
  const suspects = entries
    .filter(isFile)
    .map(({ path }) => inDirectory(directory, path))
    .filter((path) => rules.findLast((rule) => rule.matches(path))?.lfs)
  for (let i = 0; i < suspects.length; i += READS_AT_ONCE) {
    const some = suspects.slice(i, i + READS_AT_ONCE)
    const texts = await Promise.all(some.map((path) => objects.file(commit, path)))
    const found = some.find((_, j) => Buffer.from(texts[j]?.subarray(0, POINTER.length) ?? []).toString('latin1') === POINTER)
    if (found !== undefined) return found
  }
  return undefined
}

/** The lines of one .gitattributes that set or unset `filter` (gitattributes(5)); macros (`[attr]`) are collected in `macros`. */
function parseAttributes(text: string, file: string, macros: Set<string>): Rule[] {
  const directory = file.slice(0, -'.gitattributes'.length)
  const rules: Rule[] = []
  for (const line of text.split('\n')) {
    const match = /^\s*("(?:[^"\\]|\\.)*"|\S+)\s+(.*)$/.exec(line)
    if (!match || match[1]!.startsWith('#')) continue
    const attributes = match[2]!.trim().split(/\s+/)
    const setting = attributes.findLast((one) => /^[-!]?filter(?:=|$)/.test(one) || macros.has(one))
    if (setting === undefined) continue
    const lfs = setting === 'filter=lfs' || macros.has(setting)
    const pattern = match[1]!.replace(/^"(.*)"$/, '$1').replace(/\\(["\\])/g, '$1')
    if (pattern.startsWith('[attr]')) {
      if (lfs) macros.add(pattern.slice('[attr]'.length))
    } else rules.push({ matches: matcher(pattern, directory), lfs })
  }
  return rules
}

/** gitignore(5)'s patterns, as far as attributes use them: no negation, and a pattern for a directory matches nothing in it. */
function matcher(pattern: string, directory: string): (path: string) => boolean {
  const anchored = pattern.replace(/\/$/, '').includes('/')
  let source = ''
  const body = pattern.replace(/^\//, '')
  for (let i = 0; i < body.length; i++) {
    const rest = body.slice(i)
    const set = /^\[(?:!|\^)?\]?[^\]]*\]/.exec(rest)?.[0]
    if (rest.startsWith('**/')) {
      source += '(?:.*/)?'
      i += 2
    } else if (rest.startsWith('**')) {
      source += '.*'
      i += 1
    } else if (rest.startsWith('*')) source += '[^/]*'
    else if (rest.startsWith('?')) source += '[^/]'
    else if (set) {
      source += set.replace(/^\[!/, '[^').replace(/\\/g, '\\\\')
      i += set.length - 1
    } else {
      if (rest.startsWith('\\') && i + 1 < body.length) i++
      source += body.charAt(i).replace(/[.+^${}()|[\]\\]/, '\\$&')
    }
  }
  let expression: RegExp
  try {
    expression = new RegExp(`^${anchored ? '' : '(?:.*/)?'}${source}$`)
  } catch {
    return () => false
  }
  return (path) => path.startsWith(directory) && expression.test(path.slice(directory.length))
}
