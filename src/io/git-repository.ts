import { unavailable } from '../errors.ts'
import { COMMIT_PATTERN } from '../names.ts'
import { CatFile, type GitObject } from './git-cat-file.ts'
import type { GitObjects, TreeEntry } from './git-objects.ts'
import { type GitOptions, type GitResult, runGit } from './git-run.ts'
import { findInTree, parseTree } from './git-tree.ts'

const TREE = '040000'
/** Trees never change, and the images of a project share the upper ones. 4 MB hold those of a large repository. */
const TREES_KEPT_BYTES = 4 * 1024 * 1024
const COMMITS_KEPT = 1000

/** A repository's objects through git. Entries, files and lists come from one long-lived process, ancestry from one each. */
export class GitRepository implements GitObjects, AsyncDisposable {
  readonly cat: CatFile
  readonly #args: string[]
  readonly #options: GitOptions
  #trees = new Map<string, Buffer>()
  #treesOfCommits = new Map<string, string>()
  #treesBytes = 0

  /** `args` and `cwd` say which repository (`--git-dir=…`). */
  constructor(args: string[], options: GitOptions) {
    this.#args = args
    this.#options = options
    this.cat = new CatFile(args, options)
  }

  async entry(commit: string, path: string): Promise<TreeEntry | undefined> {
    let oid = await this.#treeOf(commit)
    let mode = TREE
    for (const name of path.split('/').filter((part) => part !== '')) {
      if (mode !== TREE) return undefined
      const tree = await this.#tree(oid)
      const found = findInTree(tree, name, oid.length / 2)
      if (found === undefined) return undefined
      ;({ mode, oid } = found)
    }
    return { path, mode, oid }
  }

  async file(commit: string, path: string): Promise<Uint8Array | undefined> {
    const entry = await this.entry(commit, path)
    if (entry === undefined) return undefined
    const object = await this.cat.get(entry.oid)
    return object?.type === 'blob' ? object.bytes : undefined
  }

  async tree(commit: string, path: string): Promise<TreeEntry[]> {
    const entry = await this.entry(commit, path)
    return entry?.mode === TREE ? this.#below(entry.oid, '') : []
  }

  /** Through the process that answers everything else: one more for each list (`ls-tree -r`) made 20 contexts take 20 times as long. */
  async #below(oid: string, prefix: string): Promise<TreeEntry[]> {
    const entries = parseTree(await this.#tree(oid), oid.length / 2)
    const lists = entries.map(({ path, ...entry }) =>
      entry.mode === TREE ? this.#below(entry.oid, `${prefix}${path}/`) : [{ path: prefix + path, ...entry }],
    )
    return (await Promise.all(lists)).flat()
  }

  async reaches(commit: string, ancestor: string): Promise<boolean> {
    if (commit === ancestor) return true
    if ((await this.#commit(ancestor)) === undefined) return false
    const args = ['merge-base', '--is-ancestor', fullId(ancestor), fullId(commit)]
    return (await this.run(args, [0, 1])).code === 0
  }

  /** Runs git in this repository. Throws git_failed (world's) when its exit code is none of `expected`. */
  async run(args: string[], expected = [0]): Promise<GitResult> {
    const result = await runGit([...this.#args, ...args], this.#options)
    if (expected.includes(result.code)) return result
    const why = result.stderr.trim().split('\n').at(-1)
    throw unavailable('git_failed', `git ${args[0]} failed: ${why}`, { next: 'git fsck', ids: { exit: String(result.code) } })
  }

  close(): Promise<void> {
    return this.cat.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #commit(commit: string): Promise<GitObject | undefined> {
    return this.cat.get(`${fullId(commit)}^{commit}`)
  }

  /** The id of a commit's tree stands in its first line. */
  async #treeOf(commit: string): Promise<string> {
    const kept = this.#treesOfCommits.get(commit)
    if (kept !== undefined) return kept
    const object = await this.#commit(commit)
    const oid = object && /^tree ([0-9a-f]+)\n/.exec(object.bytes.toString('latin1', 0, 80))?.[1]
    if (oid === undefined)
      throw unavailable('commit_missing', `commit ${commit} is not in this repository`, { next: 'git fetch', ids: { commit } })
    if (this.#treesOfCommits.size >= COMMITS_KEPT) this.#treesOfCommits.clear()
    this.#treesOfCommits.set(commit, oid)
    return oid
  }

  async #tree(oid: string): Promise<Buffer> {
    const kept = this.#trees.get(oid)
    if (kept !== undefined) return kept
    const object = await this.cat.get(oid)
    if (object?.type !== 'tree')
      throw unavailable('git_failed', `tree ${oid} is missing: this repository is damaged or a partial clone`, {
        next: 'git fsck; git fetch --refetch',
      })
    this.#keep(oid, object.bytes)
    return object.bytes
  }

  #keep(oid: string, tree: Buffer): void {
    if (tree.length > TREES_KEPT_BYTES / 4 || this.#trees.has(oid)) return
    this.#trees.set(oid, tree)
    this.#treesBytes += tree.length
    for (const [oldest, bytes] of this.#trees) {
      if (this.#treesBytes <= TREES_KEPT_BYTES) return
      this.#trees.delete(oldest)
      this.#treesBytes -= bytes.length
    }
  }
}

/** Ids only, so that nothing that git would take for an option or an expression gets near it. */
function fullId(commit: string): string {
  if (!COMMIT_PATTERN.test(commit)) throw new Error(`not a full commit id: ${JSON.stringify(commit)}`)
  return commit
}
