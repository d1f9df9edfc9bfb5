import { isAbsolute, join, resolve } from 'node:path'
import { CONFIG_NAME, type Config, parseConfig } from '../config.ts'
import { refused } from '../errors.ts'
import { RemoteRepository } from '../io/git-remote.ts'
import { redactUrl } from '../io/sources.ts'

/** Asking without a checkout, as CI does: commits are read where workers fetch them from. */

/** What `resolve` and `objects` of a checkout are taken from instead. */
export interface Remote {
  /** URL, or absolute path on this machine. */
  source: string
  /** Path of bake.yaml in the repository. */
  configPath: string
}

/** `repository`: as in bake.yaml or BAKE_REPOSITORY, where a path may start from `dir`. */
export const remoteAt = (repository: string, env: NodeJS.ProcessEnv, dir: string): Remote => ({
  source: repository.startsWith('.') ? resolve(dir, repository) : repository,
  configPath: configPathOf(env),
})

function configPathOf(env: NodeJS.ProcessEnv): string {
  const path = env.BAKE_CONFIG_PATH || CONFIG_NAME
  if (!isAbsolute(path) && !path.split('/').includes('..')) return path.replace(/^(?:\.\/)+/, '')
  throw refused('bad_setting', `BAKE_CONFIG_PATH=${path} is no path inside a repository`, {
    next: 'give the path of bake.yaml from the top of the repository, such as shop/bake.yaml',
  })
}

export const openRemote = (source: string, stateDir: string, signal?: AbortSignal): Promise<RemoteRepository> =>
  RemoteRepository.open({ dir: join(stateDir, 'asker'), source, signal })

/**
 * bake.yaml of the default branch: it says where queue, ledger and registry are. Not that of the commit that is asked for, which could name others; that one
 * defines the images, as always. Throws config_missing, ConfigError or what fetching throws.
 */
export async function readRemoteConfig(remote: Remote, stateDir: string): Promise<Config> {
  await using repository = await openRemote(remote.source, stateDir)
  const { commit, branch = 'HEAD' } = await repository.resolve({})
  const text = await repository.objects.file(commit, remote.configPath)
  const name = `${branch}:${remote.configPath}`
  if (text) return parseConfig(Buffer.from(text).toString('utf8'), name)
  throw refused('config_missing', `${redactUrl(remote.source)} has no ${name}`, {
    next: `commit one to its default branch, say with BAKE_CONFIG_PATH where it is, or give the connection settings as a file: BAKE_CONFIG=/path/of/bake.yaml`,
    ids: { commit },
  })
}
