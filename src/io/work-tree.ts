import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { BakeError, errnoOf, failed, messageOf, unavailable } from '../errors.ts'
import { COMMIT_PATTERN, sha256 } from '../names.ts'
import { killRecorded } from './child-record.ts'
import { TREE_SETTINGS, treeEnv } from './git-env.ts'
import { isIndexSound } from './git-index.ts'
import { fetchLfs, LFS_SETTINGS } from './git-lfs.ts'
import { type GitResult, runGit } from './git-run.ts'
import { readState, removeState, type SlotState, writeState } from './git-slot-state.ts'
import { type Submodule, submodulesOf } from './git-submodules.ts'
import { mendTree } from './git-tree-mend.ts'
import type { Mirror } from './mirror.ts'

export interface MoveOptions {
  /** Check out submodules too, recursively; else their directories are empty. */
  submodules: boolean
  /** Replace LFS pointers by the files they point to; else they stay pointers. */
  lfs: boolean
  signal: AbortSignal
}

/**
 * A directory that holds one commit's files at a time. Going to another commit writes only what differs, so that BuildKit re-sends only that. The git
 * directory is the mirror, the index is a file of its own: no `.git` is ever inside.
 */
export class WorkTree {
  readonly dir: string
  readonly #mirror: Mirror
  readonly #index: string
  readonly #state: string
  #last: Promise<void> = Promise.resolve()

  /** `dir` and `index`: absolute, on one disk, used by nothing else; both are made. */
  constructor(options: { mirror: Mirror; dir: string; index: string }) {
    this.dir = options.dir
    this.#mirror = options.mirror
    this.#index = options.index
    this.#state = `${options.index}.state.json`
  }

  /**
   * Makes the directory hold exactly `commit`, which the mirror has, whatever it held before: also after changes by others, or a move that was killed. One
   * move at a time. Throws disk_full, work_tree_failed, git_lfs_missing (the world's), submodule_unmapped (the user's), what Mirror.fetch throws for
   * submodules, or the signal's reason.
   */
  async move(commit: string, options: MoveOptions): Promise<void> {
    if (!COMMIT_PATTERN.test(commit)) throw new Error(`not a full commit id: ${JSON.stringify(commit)}`)
    const before = this.#last
    const move = before
      .then(() => this.#move(commit, options))
      .catch((error) => {
        throw this.#known(error, commit)
      })
    this.#last = move.catch(() => {})
    return move
  }

  async #move(commit: string, options: MoveOptions): Promise<void> {
    options.signal.throwIfAborted()
    if (options.lfs) await fetchLfs(this.#mirror, commit, options.signal)
    await Promise.all([mkdir(this.dir, { recursive: true }), mkdir(dirname(this.#index), { recursive: true })])
    const before = await this.#prepare(commit, options)
    const moving = { commits: [...(before?.commits ?? []), commit], lfs: options.lfs, submodules: before?.submodules ?? [] }
    await writeState(this.#state, moving)
    try {
      await this.#checkout(commit, options)
    } catch (error) {
      if (options.signal.aborted || (error instanceof BakeError && error.code !== 'work_tree_failed')) throw error
      // Whatever is in the way: without it all, it is gone, or it is said what stands.
      await this.#wipe()
      await this.#checkout(commit, options)
    }
    const submodules = await this.#moveSubmodules(commit, options, moving)
    await writeState(this.#state, { commits: [commit], lfs: options.lfs, submodules })
  }

  /**
   * Takes away all that git doesn't know, before it writes: a stray .gitattributes would count for what is written. Without a sound index, and where
   * attributes differ, nothing in the tree can be trusted and all of it goes. Gives what the tree may hold now.
   */
  async #prepare(commit: string, options: MoveOptions): Promise<SlotState | undefined> {
    // Nobody else uses this index. A git that was killed with its worker may still be in its last write.
    await killRecorded(this.#writer)
    await rm(`${this.#index}.lock`, { force: true })
    const algorithm = commit.length === 64 ? 'sha256' : 'sha1'
    const [state, sound] = await Promise.all([readState(this.#state), isIndexSound(this.#index, algorithm)])
    if (state !== undefined && sound && state.lfs === options.lfs) {
      const [differ, clean] = await Promise.all([
        this.#attributesDiffer(state.commits, commit, options),
        this.#clean(options),
        mendTree(this.dir, options.signal),
      ])
      // The second time, directories that couldn't be read can.
      if (!differ && (clean || (await this.#clean(options)))) return state
    }
    await mendTree(this.dir, options.signal)
    await this.#wipe()
    return undefined
  }

  /** Everything that is in the tree but not in the index goes, ignored files and repositories included. */
  async #clean(options: MoveOptions): Promise<boolean> {
    return (await this.#git(['clean', '-ffdxq'], options, this.#writer)).code === 0
  }

  /** Attributes decide bytes (line endings, filters), so a file may have to be written anew although its blob is the same. */
  async #attributesDiffer(from: string[], to: string, options: MoveOptions): Promise<boolean> {
    const others = new Set(from.filter((commit) => commit !== to))
    const pathspec = ':(glob)**/.gitattributes'
    for (const other of others) {
      const { code } = await this.#git(['diff-tree', '-r', '--quiet', '--no-ext-diff', other, to, '--', pathspec], options)
      // 0: the same; 1: they differ; else the old commit is gone from the mirror.
      if (code !== 0) return true
    }
    return false
  }

  async #checkout(commit: string, options: MoveOptions): Promise<void> {
    const settings = options.lfs ? LFS_SETTINGS : []
    const read = await this.#git(
      [...settings, 'read-tree', '--reset', '-u', '--no-recurse-submodules', commit],
      options,
      this.#writer,
    )
    if (read.code !== 0) throw this.#problem(commit, read.stderr)
  }

  /** `record`: told for a git that writes into the tree. */
  #git(args: string[], options: { signal: AbortSignal }, record?: string): Promise<GitResult> {
    const where = [`--git-dir=${this.#mirror.dir}`, `--work-tree=${this.dir}`]
    const env = { ...treeEnv(), GIT_INDEX_FILE: this.#index }
    return runGit([...where, ...TREE_SETTINGS, ...args], {
      cwd: this.dir,
      env,
      tied: true,
      signal: options.signal,
      ...(record !== undefined && { record }),
    })
  }

  #problem(commit: string, stderr: string): BakeError {
    const why = stderr.trim().split('\n').slice(0, 3).join('; ')
    const ids = { commit, tree: this.dir }
    if (/No space left on device|Disk quota exceeded|ENOSPC|EDQUOT/.test(stderr))
      return unavailable('disk_full', `no space left for the work tree ${this.dir}`, { next: 'df -h; free some space', ids })
    return unavailable('work_tree_failed', `can't bring ${this.dir} to commit ${commit}: ${why}`, {
      next: `check who owns what is in ${this.dir}`,
      ids,
    })
  }

  /** Node's own errors about the slot's files, told apart as git's are. */
  #known(error: unknown, commit: string): unknown {
    const known = ['ENOSPC', 'EDQUOT', 'EACCES', 'EPERM', 'EROFS', 'ENOTEMPTY', 'EIO'].includes(errnoOf(error) ?? '')
    return known ? this.#problem(commit, messageOf(error)) : error
  }

  async #wipe(): Promise<void> {
    await removeState(this.#state)
    await rm(this.#index, { force: true })
    await rm(`${this.#index}.modules`, { recursive: true, force: true })
    for (const name of await readdir(this.dir)) await rm(join(this.dir, name), { recursive: true, force: true, maxRetries: 3 })
  }

  /** Each submodule is a work tree of its own in its place. Gives the paths that are checked out now. */
  async #moveSubmodules(commit: string, options: MoveOptions, state: SlotState): Promise<string[]> {
    const wanted: Submodule[] = options.submodules ? await submodulesOf(this.#mirror, commit, options.signal) : []
    const paths = wanted.map(({ path }) => path)
    const dropped = state.submodules.filter((path) => !paths.includes(path))
    for (const path of dropped) await this.#emptySubmodule(commit, path)
    // One that isn't a submodule any more has become a directory that the index doesn't know.
    if (dropped.length > 0) await this.#clean(options)
    await writeState(this.#state, { ...state, submodules: paths })
    for (const { path, oid, sources } of wanted) {
      const mirror = await fetchAny(this.#mirror, sources, oid, options.signal)
      const tree = new WorkTree({ mirror, dir: join(this.dir, path), index: join(this.#moduleDir(path), 'index') })
      await tree.move(oid, options)
    }
    return paths
  }

  /** git leaves what is in a submodule's directory alone, so its files go when it is no more wanted. */
  async #emptySubmodule(commit: string, path: string): Promise<void> {
    await rm(this.#moduleDir(path), { recursive: true, force: true })
    const entry = await this.#mirror.objects.entry(commit, path)
    if (entry?.mode !== GITLINK) return
    await rm(join(this.dir, path), { recursive: true, force: true, maxRetries: 3 })
    await mkdir(join(this.dir, path), { recursive: true })
  }

  /** Names the git that writes into the tree now. */
  get #writer(): string {
    return `${this.#index}.writer`
  }

  /** Where a submodule's index and state are, and those of its own submodules. */
  #moduleDir = (path: string): string => join(`${this.#index}.modules`, sha256(path).slice(0, 16))
}

const GITLINK = '160000'

/** Fetches from the first source that has the commit. */
async function fetchAny(parent: Mirror, sources: string[], commit: string, signal: AbortSignal): Promise<Mirror> {
  const problems: unknown[] = []
  for (const source of sources) {
    const mirror = parent.module(source)
    try {
      await mirror.fetch({ source, commit, signal })
      return mirror
    } catch (error) {
      if (signal.aborted || !(error instanceof BakeError)) throw error
      problems.push(error)
    }
  }
  throw problems.at(-1) ?? failed('submodule_unmapped', `no repository is known for submodule commit ${commit}`)
}
