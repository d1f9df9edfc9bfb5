import { readFile } from 'node:fs/promises'
import { BakeError } from '../errors.ts'
import type { BuildRequest } from './builder.ts'
import type { DockerLogin } from './docker-login.ts'
import type { EcrTokens } from './ecr.ts'
import { checkOverrides, ecrHosts, ecrRegistry } from './ecr-host.ts'
import { basicHeader } from './registry-auth.ts'
import { type Credentials, dockerCredentials } from './registry-credentials.ts'

/** What one build shows to registries. */
export interface BuildLogin extends AsyncDisposable {
  /** DOCKER_CONFIG for buildx: the user's own settings and logins, and tokens for the ECR hosts that this build names. */
  readonly configDir: string
  /** A registry refused them: the next build gets new ones. */
  refused(): void
}

/**
 * Credentials for registries: of an ECR host a token from AWS, of every other what `docker login` stored. One per process, because it holds the tokens.
 * Nothing is loaded or asked for before an ECR host comes up.
 */
export class RegistryLogins {
  readonly #env: NodeJS.ProcessEnv
  #tokens: Promise<EcrTokens> | undefined
  readonly #refused = new Map<string, string>()

  /** Throws bad_setting (exit 2) for a BAKE_ECR_REGISTRIES that can't be read. */
  constructor(env: NodeJS.ProcessEnv = process.env) {
    this.#env = env
    checkOverrides(env)
  }

  /**
   * For HttpRegistry and whoever else asks a registry. `refused` is the Authorization header that was turned down. Throws registry_denied,
   * registry_unreachable, registry_throttled (exit 4) when AWS gives no token and `docker login` stored nothing for that host either.
   */
  readonly credentials = async (host: string, refused?: string): Promise<Credentials | undefined> => {
    const registry = ecrRegistry(host, this.#env)
    if (registry === undefined) return dockerCredentials(host, this.#env)
    this.#tokens ??= import('./ecr.ts').then(({ EcrTokens }) => new EcrTokens())
    try {
      return await (await this.#tokens).token(registry, refused ?? this.#refused.get(host))
    } catch (error) {
      // Without AWS credentials, somebody may still have logged in by hand: aws ecr get-login-password | docker login
      const own =
        error instanceof BakeError && error.code === 'registry_denied' ? await dockerCredentials(host, this.#env) : undefined
      if (own === undefined) throw error
      return own
    }
  }

  /** Undefined when the build names no ECR host: then the user's own configuration does. */
  async forBuild(
    request: Pick<BuildRequest, 'dockerfile' | 'push' | 'cacheFrom' | 'cacheTo' | 'contexts'>,
  ): Promise<BuildLogin | undefined> {
    const { push, cacheFrom, cacheTo = '', contexts } = request
    const dockerfile = await readFile(request.dockerfile, 'utf8').catch(() => '')
    const own = ecrHosts([...push, ...cacheFrom, cacheTo], this.#env)
    const bases = ecrHosts([...Object.values(contexts), dockerfile], this.#env).filter((host) => !own.includes(host))
    if (own.length + bases.length === 0) return undefined
    const found = await Promise.all([
      ...own.map(async (host) => ({ host, login: await this.credentials(host) })),
      // A Dockerfile may name a host in passing. If it pulls from there, BuildKit tells that it may not.
      ...bases.map(async (host) => ({ host, login: await this.credentials(host).catch(() => undefined) })),
    ])
    const logins = found.flatMap(({ host, login }): DockerLogin[] => (login ? [{ host, ...login }] : []))
    const { writeDockerConfig } = await import('./docker-login.ts')
    const { dir: configDir, [Symbol.asyncDispose]: dispose } = await writeDockerConfig(logins, this.#env)
    const refused = () => {
      for (const login of logins) this.#refused.set(login.host, basicHeader(login))
    }
    return { configDir, refused, [Symbol.asyncDispose]: dispose }
  }
}
