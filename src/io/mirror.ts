import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errnoOf, refused, unavailable } from '../errors.ts'
import { branchSlug, COMMIT_PATTERN, isBranchName } from '../names.ts'
import { fetchEnv, treeEnv } from './git-env.ts'
import { commitNotFound, fetchFailure } from './git-fetch-errors.ts'
import { breakStaleLock, LOCK_RETRIES, waitForLock } from './git-lock.ts'
import type { GitObjects } from './git-objects.ts'
import { GitRepository } from './git-repository.ts'
import { runGit } from './git-run.ts'
import { SharedCalls } from './git-shared.ts'
import { sourceEnv, sourceSettings } from './git-source.ts'
import { checkSource, isLocalSource, localPath } from './sources.ts'

export interface FetchRequest {
  /** A URL or path that `checkSource` takes. */
  source: string
  /** A full commit id. */
  commit: string
  branch?: string | undefined
  signal: AbortSignal
}

export interface Fetched {
  /** What the branch points to at the source now; undefined when it is gone, or none was asked for. */
  tip?: string
}

const commitRef = (commit: string) => `refs/bake/commits/${commit}`
/** A slug, because `a` may be deleted and `a/b` made, which can't both be refs of one repository. */
const branchRef = (branch: string) => `refs/bake/branches/${branchSlug(branch)}`

/** A worker's bare copy of one repository. Several fetches, in one process or many, may use it at once. Its HEAD points nowhere and nobody touches it. */
export class Mirror implements AsyncDisposable {
  readonly dir: string
  readonly allowLocal: boolean
  readonly objects: GitObjects
  /** Where it was last fetched from, in this process: submodules' relative URLs start there. */
  source: string | undefined
  readonly #repository: GitRepository
  readonly #shared = new SharedCalls<Fetched>()
  readonly #modules = new Map<string, Mirror>()

  /** `dir`: absolute, made at the first fetch. `allowLocal`: sources on this machine may be fetched too. */
  constructor(dir: string, options: { allowLocal: boolean }) {
    this.dir = dir
    this.allowLocal = options.allowLocal
    this.#repository = new GitRepository([`--git-dir=${dir}`], { env: treeEnv(), tied: true })
    this.objects = this.#repository
  }

  /**
   * Brings a commit with its history here, kept from gc by a ref, and tells where the branch is. A commit that is here already takes no process unless a
   * branch is asked for. Throws bad_repository, commit_not_found (the user's), repository_unreachable, repository_not_trusted or disk_full (the world's).
   */
  async fetch(request: FetchRequest): Promise<Fetched> {
    const { source, commit, branch, signal } = request
    checkSource(source, { allowLocal: this.allowLocal })
    if (!COMMIT_PATTERN.test(commit)) throw refused('bad_sha', `${JSON.stringify(commit)} is not a full commit id`)
    if (branch !== undefined && !isBranchName(branch))
      throw refused('bad_ref', `${JSON.stringify(branch)} is not a legal branch name`)
    this.source = source
    return this.#shared.call(JSON.stringify([source, commit, branch]), signal, (shared) =>
      this.#fetch({ source, commit, branch, signal: shared }),
    )
  }

  /** The mirror beside this one of a submodule's repository. */
  module(source: string): Mirror {
    const name = createHash('sha256').update(source).digest('hex').slice(0, 32)
    const known = this.#modules.get(name)
    if (known !== undefined) return known
    const mirror = new Mirror(join(dirname(this.dir), 'modules', `${name}.git`), { allowLocal: this.allowLocal })
    this.#modules.set(name, mirror)
    return mirror
  }

  /** Packs and prunes when git finds that worth it; for idle minutes, since it can take some itself. Never fails the caller's work. */
  async maintain(signal: AbortSignal): Promise<void> {
    const args = [`--git-dir=${this.dir}`, '-c', 'gc.autoDetach=false', 'gc', '--auto', '--quiet']
    await runGit(args, { env: treeEnv(), tied: true, signal })
  }

  /** Ends the process behind `objects`; the mirror can still be used. */
  async close(): Promise<void> {
    await Promise.all([this.#repository.close(), ...[...this.#modules.values()].map((mirror) => mirror.close())])
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #fetch(request: FetchRequest): Promise<Fetched> {
    const { commit, branch } = request
    if (!existsSync(join(this.dir, 'HEAD'))) await this.#create(commit.length === 64 ? 'sha256' : 'sha1')
    // The ref is written after everything that it reaches: the object alone may be the beginning of a fetch that was killed.
    const present = (await this.#repository.cat.get(`${commitRef(commit)}^{commit}`)) !== undefined
    if (present && branch === undefined) return {}
    if (present && isLocalSource(request.source) && (await this.#tipAt(request)) === commit) return { tip: commit }
    const wanted = [
      ...(present ? [] : [`${commit}:${commitRef(commit)}`]),
      ...(branch === undefined ? [] : [`+refs/heads/${branch}:${branchRef(branch)}`]),
    ]
    const outcome = await this.#run(request, wanted)
    if (outcome === 'gone') return { ...(await this.#fetch({ ...request, branch: undefined })) }
    if (outcome === 'unadvertised') await this.#fetchEverything(request)
    if (branch === undefined) return {}
    const tip = (await this.#repository.cat.get(`${branchRef(branch)}^{commit}`))?.oid
    return tip === undefined ? {} : { tip }
  }

  /** Where a branch points at a source on this machine: one process, where fetching takes six. Undefined: fetching will tell why. */
  async #tipAt({ source, branch, signal }: FetchRequest): Promise<string | undefined> {
    const args = [
      '-C',
      localPath(source),
      'rev-parse',
      '--verify',
      '--quiet',
      '--end-of-options',
      `refs/heads/${branch}^{commit}`,
    ]
    const { code, stdout } = await runGit(args, { env: fetchEnv(true), signal, tied: true })
    return code === 0 ? stdout.toString().trim() : undefined
  }

  /** For servers that give no commits by id (protocol 0 without uploadpack.allowReachableSHA1InWant): all branches and tags, one of which may reach it. */
  async #fetchEverything(request: FetchRequest): Promise<void> {
    const { source, commit, branch } = request
    const branches = branch === undefined ? [] : [`+refs/heads/${branch}:${branchRef(branch)}`]
    const outcome = await this.#run(
      request,
      ['+refs/heads/*:refs/bake/all/heads/*', '+refs/tags/*:refs/bake/all/tags/*', ...branches],
      ['--prune'],
    )
    if (outcome !== undefined || (await this.#repository.cat.get(`${commit}^{commit}`)) === undefined)
      throw commitNotFound(source, commit)
    await this.#repository.run(['update-ref', commitRef(commit), commit])
  }

  /** One `git fetch`, again while another holds a lock. Gives `gone` and `unadvertised` back, throws the rest. */
  async #run(request: FetchRequest, refspecs: string[], flags: string[] = []): Promise<'gone' | 'unadvertised' | undefined> {
    const { source, signal } = request
    const env = await sourceEnv(source, { allowLocal: this.allowLocal, args: [`--git-dir=${this.dir}`], tied: true, signal })
    const args = [
      `--git-dir=${this.dir}`,
      ...sourceSettings(source),
      'fetch',
      ...FETCH_FLAGS,
      ...(isLocalSource(source) ? [LOCAL_UPLOAD_PACK] : []),
      ...flags,
      '--',
      source,
      ...refspecs,
    ]
    for (let attempt = 1; ; attempt++) {
      const { code, stderr } = await runGit(args, { env, signal, tied: true })
      if (code === 0) return undefined
      const failure = fetchFailure(stderr, request)
      if (failure === 'gone' || failure === 'unadvertised') return failure
      if (failure !== 'locked') throw failure
      if (attempt > LOCK_RETRIES)
        throw unavailable('mirror_locked', `${this.dir} stays locked: ${stderr.trim().split('\n')[0]}`, { next: 'run it again' })
      if (!(await breakStaleLock(stderr, this.dir))) await waitForLock(attempt, signal)
    }
  }

  /** Made under another name, then renamed: of two processes one wins, and nobody sees half a repository. */
  async #create(objectFormat: 'sha1' | 'sha256'): Promise<void> {
    const parent = dirname(this.dir)
    await mkdir(parent, { recursive: true })
    const draft = await mkdtemp(join(parent, `.${basename(this.dir)}-`))
    try {
      const args = ['init', '--quiet', '--bare', '--template=', `--object-format=${objectFormat}`, '--', draft]
      const { code, stderr } = await runGit(['-c', 'init.defaultBranch=main', ...args], { env: treeEnv(), tied: true })
      if (code !== 0)
        throw unavailable('mirror_failed', `can't make ${this.dir}: ${stderr.trim()}`, {
          next: `check ${parent} and its disk (df -h)`,
        })
      await rename(draft, this.dir)
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }
}

/** On one disk, looking for deltas costs more than they save: measured 23 s against 5 s for 80 MB in files that were never packed. */
const LOCAL_UPLOAD_PACK = '--upload-pack=git -c pack.window=0 -c core.compression=1 upload-pack'

/** --update-shallow: the source may be a shallow clone (CI), whose history begins where it begins. */
const FETCH_FLAGS = [
  '--quiet',
  '--no-tags',
  '--no-write-fetch-head',
  '--no-auto-maintenance',
  '--no-recurse-submodules',
  '--update-shallow',
  '--force',
]
