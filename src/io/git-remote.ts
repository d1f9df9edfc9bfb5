import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errnoOf, refused, unavailable } from '../errors.ts'
import { isBranchName, sha256 } from '../names.ts'
import { commitNotFound, fetchFailure } from './git-fetch-errors.ts'
import { breakStaleLock, LOCK_RETRIES, waitForLock } from './git-lock.ts'
import type { GitObjects } from './git-objects.ts'
import { GitRepository } from './git-repository.ts'
import { runGit } from './git-run.ts'
import { sourceEnv, sourceSettings } from './git-source.ts'
import { checkSource, redactUrl } from './sources.ts'

export interface RemoteOptions {
  /** What it fetches is kept in a directory of its own in here. */
  dir: string
  /** A URL or path that `checkSource` takes, paths on this machine included. */
  source: string
  signal?: AbortSignal | undefined
}

interface Ref {
  oid: string
  name: string
}

/**
 * A repository for an asker that has no checkout of it: of the commit that was named it fetches the trees, without history and without files; a file comes when
 * it is read (partial clone, git-rev-list(1) --filter=blob:none). Servers that can't filter send the files along.
 */
export class RemoteRepository implements AsyncDisposable {
  readonly objects: GitObjects
  readonly #repository: GitRepository
  readonly #dir: string
  readonly #source: string
  readonly #env: NodeJS.ProcessEnv
  readonly #signal: AbortSignal | undefined

  private constructor({ dir, source, signal }: RemoteOptions, env: NodeJS.ProcessEnv) {
    this.#dir = join(dir, `${sha256(source).slice(0, 16)}.git`)
    this.#source = source
    this.#signal = signal
    this.#env = env
    this.#repository = new GitRepository([`--git-dir=${this.#dir}`], { env })
    this.objects = this.#repository
  }

  /** Asks nobody anything yet. Throws bad_repository (the user's). */
  static async open(options: RemoteOptions): Promise<RemoteRepository> {
    checkSource(options.source, { allowLocal: true })
    return new RemoteRepository(options, await sourceEnv(options.source, { allowLocal: true }))
  }

  /**
   * The full id of the one commit that was named, else of the default branch's tip, and brings it here. Throws (the user's) bad_sha, short_sha, bad_ref,
   * unknown_ref, commit_not_found, or (the world's) repository_unreachable.
   */
  async resolve(what: { sha?: string; branch?: string; tag?: string }): Promise<{ commit: string; branch?: string }> {
    const found = what.sha === undefined ? await this.#tip(what) : { commit: await this.#full(what.sha) }
    await this.#fetch(found.commit)
    return found
  }

  /** Nothing is changed where nothing is checked out. */
  async changes(): Promise<string[]> {
    return []
  }

  close(): Promise<void> {
    return this.#repository.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #tip({ branch, tag }: { branch?: string; tag?: string }): Promise<{ commit: string; branch?: string }> {
    if (branch === undefined && tag === undefined) {
      const { refs, head } = await this.#list(['HEAD'])
      const tip = refs.find(({ name }) => name === 'HEAD')
      if (tip === undefined) throw this.#unknown('HEAD', 'it has no commit yet, or no default branch: name a --branch')
      return { commit: tip.oid, ...(head === undefined ? {} : { branch: head }) }
    }
    const kind = branch === undefined ? 'tag' : 'branch'
    const root = branch === undefined ? 'refs/tags/' : 'refs/heads/'
    const given = (branch ?? tag)!
    const name = given.startsWith(root) ? given.slice(root.length) : given
    if (!isBranchName(name)) throw refused('bad_ref', `${JSON.stringify(given)} is not a legal ${kind} name`)
    const { refs } = await this.#list([root + name, `${root}${name}^{}`])
    // An annotated tag is followed by what it points to.
    const tip = refs.find((ref) => ref.name === `${root}${name}^{}`) ?? refs.find((ref) => ref.name === root + name)
    if (tip === undefined) throw this.#unknown(`${kind} ${JSON.stringify(name)}`, `git ls-remote '${redactUrl(this.#source)}'`)
    return { commit: tip.oid, ...(branch === undefined ? {} : { branch: name }) }
  }

  /** Servers take full ids only; a short one can still be the beginning of a branch's or tag's. */
  async #full(sha: string): Promise<string> {
    const prefix = sha.toLowerCase()
    if (!/^[0-9a-f]{4,64}$/.test(prefix))
      throw refused('bad_sha', `${JSON.stringify(sha)} is not a commit id: 4 to 64 hex digits`, {
        next: 'for a branch or a tag use --branch or --tag',
      })
    if (prefix.length === 40 || prefix.length === 64) return prefix
    const { refs } = await this.#list([])
    const tips = refs.filter(({ oid, name }) => oid.startsWith(prefix) && !refs.some((ref) => ref.name === `${name}^{}`))
    const [only, ...others] = new Set(tips.map(({ oid }) => oid))
    if (only !== undefined && others.length === 0) return only
    throw refused('short_sha', `${prefix} is the beginning of ${only === undefined ? 'no' : 'more than one'} branch or tag`, {
      next: 'without a checkout, give all digits of the commit id',
      ids: { commit: prefix },
    })
  }

  #unknown(what: string, next: string) {
    const repository = redactUrl(this.#source)
    return refused('unknown_ref', `${repository} has no ${what}`, { next, ids: { repository } })
  }

  async #list(patterns: string[]): Promise<{ refs: Ref[]; head?: string }> {
    const args = [...sourceSettings(this.#source), 'ls-remote', '--symref', '--', this.#source, ...patterns]
    // Not in whatever repository this process stands.
    const { code, stdout, stderr } = await runGit(args, { env: this.#env, cwd: '/', signal: this.#signal })
    if (code !== 0) throw this.#failure(stderr, '')
    const lines = stdout.toString('utf8').split('\n')
    const head = lines.map((line) => /^ref: refs\/heads\/(.+)\tHEAD$/.exec(line)?.[1]).find((name) => name !== undefined)
    const refs = lines.flatMap((line) => {
      const [, oid, name] = /^([0-9a-f]{40,64})\t(.+)$/.exec(line) ?? []
      return oid && name ? [{ oid, name }] : []
    })
    return { refs, ...(head === undefined ? {} : { head }) }
  }

  async #fetch(commit: string): Promise<void> {
    const ref = `refs/bake/commits/${commit}`
    if (!existsSync(join(this.#dir, 'HEAD'))) await this.#create(commit.length === 64 ? 'sha256' : 'sha1')
    // The ref is written after what it reaches.
    else if ((await this.#repository.cat.get(`${ref}^{commit}`)) !== undefined) return
    const args = [`--git-dir=${this.#dir}`, ...sourceSettings(this.#source), 'fetch', ...FLAGS, '--', REMOTE, `${commit}:${ref}`]
    for (let attempt = 1; ; attempt++) {
      const { code, stderr } = await runGit(args, { env: this.#env, signal: this.#signal })
      if (code === 0) return
      const failure = fetchFailure(stderr, { source: this.#source, commit })
      if (failure !== 'locked' || attempt > LOCK_RETRIES) throw this.#failure(stderr, commit)
      if (!(await breakStaleLock(stderr, this.#dir))) await waitForLock(attempt, this.#signal ?? new AbortController().signal)
    }
  }

  #failure(stderr: string, commit: string): unknown {
    const failure = fetchFailure(stderr, { source: this.#source, commit })
    if (failure === 'gone') return commitNotFound(this.#source, commit)
    if (typeof failure !== 'string') return failure
    const repository = redactUrl(this.#source)
    const why = failure === 'locked' ? `${this.#dir} stays locked` : `${repository} gives no commits by their ids`
    const next = failure === 'locked' ? 'run it again' : 'name a --branch or --tag that is there, or run bake in a checkout'
    return unavailable('repository_unreachable', why, { next, ids: { repository } })
  }

  /** Made under another name, then renamed, so that nobody sees half of it. */
  async #create(objectFormat: 'sha1' | 'sha256'): Promise<void> {
    const parent = dirname(this.#dir)
    await mkdir(parent, { recursive: true })
    const draft = await mkdtemp(join(parent, `.${basename(this.#dir)}-`))
    try {
      const settings = { url: this.#source, promisor: 'true', partialclonefilter: FILTER }
      const steps = [
        ['init', '--quiet', '--bare', '--template=', `--object-format=${objectFormat}`, '--', draft],
        ...Object.entries(settings).map(([key, value]) => [`--git-dir=${draft}`, 'config', `remote.${REMOTE}.${key}`, value]),
      ]
      for (const step of steps) {
        const { code, stderr } = await runGit(['-c', 'init.defaultBranch=main', ...step], { env: this.#env })
        if (code !== 0)
          throw unavailable('mirror_failed', `can't make ${this.#dir}: ${stderr.trim()}`, {
            next: `check ${parent} and its disk (df -h)`,
          })
      }
      await rename(draft, this.#dir)
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }
}

/** A configured one, because git asks it for the files that are missing. */
const REMOTE = 'source'
const FILTER = 'blob:none'
const FLAGS = [
  '--quiet',
  '--depth=1',
  `--filter=${FILTER}`,
  '--no-tags',
  '--no-write-fetch-head',
  '--no-auto-maintenance',
  '--no-recurse-submodules',
  '--force',
]
