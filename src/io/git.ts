import { statSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { relative } from 'node:path'
import { refused, unavailable } from '../errors.ts'
import { readEnv } from './git-env.ts'
import type { GitObjects } from './git-objects.ts'
import { GitRepository } from './git-repository.ts'
import { commitOfRef, commitOfSha } from './git-resolve.ts'
import { type GitResult, runGit } from './git-run.ts'
import { checkGitVersion } from './git-version.ts'

interface Head {
  commit: string
  branch?: string
}

/** The checkout that bake was started in: its place, its commits, its uncommitted changes. Nothing in it is written. */
export class Checkout implements AsyncDisposable {
  /** Absolute path of the work tree's root. */
  readonly root: string
  /** The directory that was opened, from the root: '' or 'sub/'. */
  readonly prefix: string
  readonly objects: GitObjects
  readonly #repository: GitRepository
  /** As it was when this checkout was opened; undefined before the first commit. */
  readonly #head: Head | undefined

  private constructor(root: string, prefix: string, repository: GitRepository, head: Head | undefined) {
    this.root = root
    this.prefix = prefix
    this.objects = repository
    this.#repository = repository
    this.#head = head
  }

  /**
   * Opens the checkout that `dir` is in. Throws not_a_repository, bare_repository (the user's), repository_not_trusted, git_missing or git_too_old
   * (the world's).
   */
  static async open(dir: string): Promise<Checkout> {
    if (!statSync(dir, { throwIfNoEntry: false })?.isDirectory())
      throw refused('not_a_repository', `${dir} is not a directory`, { next: 'run bake inside a checkout of your project' })
    const options = { cwd: dir, env: { ...readEnv(), ...TRACED } }
    const repository = new GitRepository([], { cwd: dir, env: readEnv() })
    const asked = runGit(
      [
        'rev-parse',
        '--is-bare-repository',
        '--is-inside-work-tree',
        '--show-toplevel',
        'HEAD^{commit}',
        '--symbolic-full-name',
        'HEAD',
      ],
      options,
    )
    // Whoever opens a checkout reads its bake.yaml next: both processes start at once.
    repository.cat.start()
    try {
      const answer = await asked
      checkGitVersion(answer.stderr)
      const { root, head } = parseAnswer(answer, dir)
      const prefix = relative(root, await realpath(dir))
      return new Checkout(root, prefix === '' ? '' : `${prefix}/`, repository, head)
    } catch (error) {
      await repository.close()
      throw error
    }
  }

  /**
   * The full id of the one commit that was named, HEAD if none was. `branch` is the branch that was asked for, or the one that HEAD is on.
   * Throws (the user's) bad_sha, unknown_commit, ambiguous_commit, bad_ref, unknown_ref or no_commits.
   */
  async resolve(what: { sha?: string; branch?: string; tag?: string }): Promise<Head> {
    const named = Object.entries(what).filter(([, value]) => value !== undefined)
    if (named.length > 1)
      throw refused('bad_ref', `${named.map(([name]) => `--${name}`).join(' and ')} together name more than one commit`, {
        next: 'give one of them',
      })
    if (what.sha !== undefined) return { commit: await commitOfSha(this.#repository, what.sha) }
    if (what.branch !== undefined) return commitOfRef(this.#repository, 'branch', what.branch)
    if (what.tag !== undefined) return { commit: (await commitOfRef(this.#repository, 'tag', what.tag)).commit }
    if (this.#head !== undefined) return this.#head
    throw refused('no_commits', `${this.root} has no commit yet`, { next: 'git add … && git commit' })
  }

  /** Paths from the root that differ from HEAD: changed, added, removed, and untracked ones that aren't ignored (a new directory once, with `/`). */
  async changes(): Promise<string[]> {
    const args = ['status', '--porcelain=v1', '-z', '--no-renames', '--untracked-files=normal', '--ignore-submodules=none']
    const { stdout } = await this.#repository.run(args)
    return stdout
      .toString('utf8')
      .split('\0')
      .filter((line) => line !== '')
      .map((line) => line.slice('XY '.length))
  }

  close(): Promise<void> {
    return this.#repository.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** git's version among its trace events (api-trace2): no second process to ask for it. */
const TRACED = { GIT_TRACE2_EVENT: '2', GIT_TRACE2_EVENT_BRIEF: '1', GIT_TRACE2_EVENT_NESTING: '0' }

function parseAnswer({ code, stdout, stderr }: GitResult, dir: string): { root: string; head: Head | undefined } {
  const [bare, inside, ...rest] = stdout.toString('utf8').replace(/\n$/, '').split('\n')
  if (/detected dubious ownership/.test(stderr))
    throw unavailable('repository_not_trusted', `${dir} belongs to another user, so git doesn't read it`, {
      next: `git config --global --add safe.directory '${dir}'`,
    })
  if (/not a git repository/.test(stderr) && bare === '')
    throw refused('not_a_repository', `${dir} is not in a git repository`, {
      next: 'run bake inside a checkout of your project, or git init and commit',
    })
  if (inside !== 'true') {
    const what = bare === 'true' ? 'is a bare repository' : 'is inside a .git directory'
    throw refused('bare_repository', `${dir} ${what}, which has no bake.yaml to read`, {
      next: 'git clone it and run bake in the clone',
    })
  }
  if (code === 0) {
    const [commit = '', ref = ''] = rest.splice(-2)
    return {
      root: rest.join('\n'),
      head: ref.startsWith('refs/heads/') ? { commit, branch: ref.slice('refs/heads/'.length) } : { commit },
    }
  }
  // Before the first commit, everything but HEAD is answered.
  if (/HEAD/.test(stderr)) return { root: rest.filter((line) => !line.startsWith('HEAD')).join('\n'), head: undefined }
  const why = stderr.split('\n').find((line) => line.startsWith('fatal:'))
  throw unavailable('git_failed', `git can't read ${dir}: ${why}`, { next: 'git status; git fsck' })
}
