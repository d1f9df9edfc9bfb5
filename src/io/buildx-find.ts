import { execFile } from 'node:child_process'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { unavailable } from '../errors.ts'
import { isExecutable } from './child.ts'
import { dockerConfigDir, readDockerConfig } from './docker-endpoint.ts'

/** The first with --progress=rawjson: https://github.com/docker/buildx/releases/tag/v0.13.0 */
const OLDEST = [0, 13] as const
const VERSION_TIMEOUT_MS = 10_000

/** Where the docker command line looks for plugins (cli-plugins/manager of docker/cli), Homebrew's and Docker Desktop's places too. */
const PLUGIN_DIRS = [
  '/usr/local/lib/docker/cli-plugins',
  '/usr/local/libexec/docker/cli-plugins',
  '/usr/lib/docker/cli-plugins',
  '/usr/libexec/docker/cli-plugins',
  '/opt/homebrew/lib/docker/cli-plugins',
  '/Applications/Docker.app/Contents/Resources/cli-plugins',
]

export interface Buildx {
  path: string
  /** As in `0.13.1`, without v or a distribution's suffix. */
  version: string
}

/** Asking for the version costs a process (45 ms); a file with the same path and mtime has the same version. */
const versions = new Map<string, string | undefined>()

/** The docker-buildx plugin that the docker command line would run, else one in PATH; undefined when there is none that runs. */
export async function findBuildx(env: NodeJS.ProcessEnv = process.env): Promise<Buildx | undefined> {
  for (const path of await candidates(env)) {
    if (!isExecutable(path)) continue
    const version = await versionOf(path, env)
    if (version !== undefined) return { path, version }
  }
  return undefined
}

/**
 * The plugin, fit for use. Throws buildx_missing or buildx_too_old (exit 4).
 * @param memo a file in which versions are remembered for the next process; a damaged one is written anew.
 */
export async function assertBuildx(env: NodeJS.ProcessEnv = process.env, memo?: string): Promise<Buildx> {
  if (memo !== undefined) await recall(memo)
  const known = versions.size
  const buildx = await findBuildx(env)
  if (memo !== undefined && versions.size > known) await writeFile(memo, JSON.stringify([...versions])).catch(() => {})
  const next = 'bin/setup installs it on Debian and Ubuntu; elsewhere: https://github.com/docker/buildx#installing'
  if (!buildx) throw unavailable('buildx_missing', 'the docker-buildx plugin is not installed', { next })
  const [major = 0, minor = 0] = buildx.version.split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return buildx
  throw unavailable(
    'buildx_too_old',
    `docker-buildx ${buildx.version} (${buildx.path}) is too old: ${OLDEST.join('.')} or later is needed`,
    {
      next,
      ids: { path: buildx.path },
    },
  )
}

async function recall(memo: string): Promise<void> {
  try {
    const entries: unknown = JSON.parse(await readFile(memo, 'utf8'))
    if (!Array.isArray(entries)) return
    for (const [key, version] of entries)
      if (typeof key === 'string' && /^\d+\.\d+\.\d+$/.test(String(version))) versions.set(key, String(version))
  } catch {
    // None yet, or half of one.
  }
}

async function candidates(env: NodeJS.ProcessEnv): Promise<string[]> {
  const { cliPluginsExtraDirs } = await readDockerConfig(env)
  const extra = Array.isArray(cliPluginsExtraDirs) ? cliPluginsExtraDirs.filter((dir) => typeof dir === 'string') : []
  const dirs = [join(dockerConfigDir(env), 'cli-plugins'), ...extra, ...PLUGIN_DIRS, ...(env.PATH ?? '').split(delimiter)]
  return [...new Set(dirs.filter(isAbsolute))].map((dir) => join(dir, 'docker-buildx'))
}

/** `docker-buildx version` prints `github.com/docker/buildx v0.13.1 788433953af1…`; Debian's: `… 0.13.1+ds1 0.13.1+ds1-3`. */
async function versionOf(path: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const { mtimeMs } = await stat(path)
  const key = `${path} ${mtimeMs}`
  if (!versions.has(key)) {
    const output = await promisify(execFile)(path, ['version'], { env, timeout: VERSION_TIMEOUT_MS }).catch(() => undefined)
    versions.set(key, /\sv?(\d+\.\d+\.\d+)/.exec(output?.stdout ?? '')?.[1])
  }
  return versions.get(key)
}
