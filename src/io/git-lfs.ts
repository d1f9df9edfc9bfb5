import { unavailable } from '../errors.ts'
import { fetchEnv } from './git-env.ts'
import { runGit } from './git-run.ts'
import type { Mirror } from './mirror.ts'
import { isLocalSource, localPath, redactUrl } from './sources.ts'

/** The LFS filter as `git lfs install` would set it up, but without downloads: `fetchLfs` has brought everything. */
export const LFS_SETTINGS = Object.entries({
  'filter.lfs.process': 'git-lfs filter-process',
  'filter.lfs.smudge': 'git-lfs smudge -- %f',
  'filter.lfs.clean': 'git-lfs clean -- %f',
  'filter.lfs.required': 'true',
  'lfs.concurrenttransfers': '8',
}).flatMap(([name, value]) => ['-c', `${name}=${value}`])

/**
 * Brings the files that a commit's LFS pointers stand for into the mirror's own store, with the user's credentials: the checkout later runs without them.
 * Throws git_lfs_missing or lfs_unreachable (the world's).
 */
export async function fetchLfs(mirror: Mirror, commit: string, signal: AbortSignal): Promise<void> {
  const { source } = mirror
  if (source === undefined) throw new Error(`${mirror.dir} was never fetched`)
  const env = fetchEnv(mirror.allowLocal)
  const installed = await runGit(['lfs', 'version'], { env, tied: true, signal })
  if (installed.code !== 0)
    throw unavailable('git_lfs_missing', 'this image says lfs: true, but git-lfs is not installed here', {
      next: 'apt-get install git-lfs',
    })
  // A path is served by git-lfs-standalone-file, which wants a URL.
  const url = isLocalSource(source) ? new URL(`file://${localPath(source)}`).href : source
  const args = [`--git-dir=${mirror.dir}`, '-c', `remote.origin.url=${url}`, 'lfs', 'fetch', 'origin', commit]
  const { code, stdout, stderr } = await runGit(args, { env, tied: true, signal })
  if (code === 0) return
  const why = redactUrl(stderr.trim() || stdout.toString().trim())
    .split('\n')
    .slice(0, 3)
    .join('; ')
  throw unavailable('lfs_unreachable', `can't fetch LFS files of ${commit} from ${redactUrl(url)}: ${why}`, {
    next: 'git lfs push --all, and check that this machine may read them: git lfs fetch',
    ids: { commit },
  })
}
