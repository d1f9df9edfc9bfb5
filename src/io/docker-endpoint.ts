import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { unavailable } from '../errors.ts'
import { sha256 } from '../names.ts'

const DEFAULT_HOST = 'unix:///var/run/docker.sock'

export interface DockerEndpoint {
  /** `unix://`, `tcp://` or `ssh://`. */
  host: string
  /** Directory with ca.pem, cert.pem and key.pem, when the endpoint is protected by TLS. */
  certificates?: string
}

/** Where the docker command line keeps its configuration: DOCKER_CONFIG, else ~/.docker. */
export const dockerConfigDir = (env: NodeJS.ProcessEnv): string => env.DOCKER_CONFIG || join(env.HOME || homedir(), '.docker')

/** The docker command line's config.json; {} when there is none or it can't be read. */
export async function readDockerConfig(
  env: NodeJS.ProcessEnv,
): Promise<{ currentContext?: unknown; cliPluginsExtraDirs?: unknown }> {
  try {
    const config: unknown = JSON.parse(await readFile(join(dockerConfigDir(env), 'config.json'), 'utf8'))
    return typeof config === 'object' && config !== null ? config : {}
  } catch {
    return {}
  }
}

/**
 * The engine that the docker command line and buildx talk to: DOCKER_HOST, else the context of DOCKER_CONTEXT or `docker context use`, else
 * /var/run/docker.sock. Rules: https://docs.docker.com/engine/manage-resources/contexts/. Throws engine_context_unknown (exit 4).
 */
export async function dockerEndpoint(env: NodeJS.ProcessEnv): Promise<DockerEndpoint> {
  if (env.DOCKER_HOST) {
    const certificates = env.DOCKER_CERT_PATH || dockerConfigDir(env)
    return { host: env.DOCKER_HOST, ...(env.DOCKER_TLS_VERIFY ? { certificates } : {}) }
  }
  const context = env.DOCKER_CONTEXT || (await readDockerConfig(env)).currentContext
  if (typeof context !== 'string' || context === '' || context === 'default') return { host: DEFAULT_HOST }
  const store = join(dockerConfigDir(env), 'contexts')
  const id = sha256(context)
  try {
    const meta = JSON.parse(await readFile(join(store, 'meta', id, 'meta.json'), 'utf8'))
    const host: unknown = meta?.Endpoints?.docker?.Host
    if (typeof host !== 'string' || host === '') throw new Error('it names no host')
    return { host, ...(host.startsWith('tcp:') ? await withCertificates(join(store, 'tls', id, 'docker')) : {}) }
  } catch (cause) {
    throw unavailable('engine_context_unknown', `the docker context ${context} can't be read`, {
      next: 'docker context ls; docker context use default',
      ids: { context },
      cause,
    })
  }
}

async function withCertificates(dir: string): Promise<{ certificates?: string }> {
  return readFile(join(dir, 'ca.pem')).then(
    () => ({ certificates: dir }),
    () => ({}),
  )
}
