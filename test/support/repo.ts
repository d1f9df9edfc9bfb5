import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

/** Text or bytes, an executable, a symbolic link, or null: removed. */
export type RepoFile = string | Uint8Array | { executable: string | Uint8Array } | { link: string } | null
export type RepoFiles = Record<string, RepoFile>

export interface TestRepo extends AsyncDisposable {
  /** Absolute path of the work tree. */
  readonly dir: string
  /** Writes (or lets a function change) the work tree, then commits all of it, also when nothing changed. Gives the full id. */
  commit(change: RepoFiles | ((dir: string) => void | Promise<void>), message?: string): Promise<string>
  /** Runs git there and gives its trimmed stdout; throws with stderr when it fails. */
  git(...args: string[]): Promise<string>
}

/** Nobody's configuration, fixed author and date: the same content gives the same commit id everywhere. */
const env = {
  ...process.env,
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'Ann Author',
  GIT_AUTHOR_EMAIL: 'ann@example.com',
  GIT_COMMITTER_NAME: 'Ann Author',
  GIT_COMMITTER_EMAIL: 'ann@example.com',
  GIT_AUTHOR_DATE: '1700000000 +0000',
  GIT_COMMITTER_DATE: '1700000000 +0000',
  LC_ALL: 'C',
}

/** Runs git in `dir` with the tests' environment. */
export async function git(dir: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('git', args, { cwd: dir, env, maxBuffer: 256 * 1024 * 1024 })
  return stdout.trim()
}

export async function writeFiles(dir: string, files: RepoFiles): Promise<void> {
  for (const [path, file] of Object.entries(files)) {
    const to = join(dir, path)
    await rm(to, { recursive: true, force: true })
    if (file === null) continue
    await mkdir(dirname(to), { recursive: true })
    if (typeof file === 'string' || file instanceof Uint8Array) await writeFile(to, file)
    else if ('link' in file) await symlink(file.link, to)
    else {
      await writeFile(to, file.executable)
      await chmod(to, 0o755)
    }
  }
}

/** A throw-away git repository with branch `main`; with `files` it has a first commit already. Remove it with `await using`. */
export async function makeRepo(
  options: { files?: RepoFiles; objectFormat?: 'sha1' | 'sha256'; bare?: boolean } = {},
): Promise<TestRepo> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-repo-'))
  await git(
    dir,
    'init',
    '-q',
    '-b',
    'main',
    `--object-format=${options.objectFormat ?? 'sha1'}`,
    ...(options.bare ? ['--bare'] : []),
  )
  // A commit of thousands of files would leave a packing process behind.
  await git(dir, 'config', 'gc.auto', '0')
  const repo: TestRepo = {
    dir,
    git: (...args) => git(dir, ...args),
    async commit(change, message = 'a change') {
      await (typeof change === 'function' ? change(dir) : writeFiles(dir, change))
      await git(dir, 'add', '--all', '--force', '--', '.', ':(exclude).bake')
      await git(dir, 'commit', '-q', '--allow-empty', '-m', message)
      return git(dir, 'rev-parse', 'HEAD')
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true, maxRetries: 3 }),
  }
  if (options.files !== undefined) await repo.commit(options.files, 'first')
  return repo
}
