import { readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerConfigDir } from './docker-endpoint.ts'
import type { Credentials } from './registry-credentials.ts'
import { secretsDirectory } from './secrets.ts'

export interface DockerLogin extends Credentials {
  /** With its port. */
  host: string
}

/**
 * Writes a DOCKER_CONFIG directory (0700, in memory where there is some) that has `logins` and, for everything else, what the user's own has: other hosts'
 * logins and helpers, proxies, contexts. Removed on dispose, and by the sweeper of secrets after a kill.
 */
export async function writeDockerConfig(
  logins: DockerLogin[],
  env: NodeJS.ProcessEnv,
): Promise<{ dir: string } & AsyncDisposable> {
  const { dir, [Symbol.asyncDispose]: dispose } = await secretsDirectory(env)
  const own = dockerConfigDir(env)
  try {
    // Contexts and certificates stand beside the file; hidden ones are buildx's own scratch.
    for (const name of await readdir(own).catch(() => []))
      if (name !== 'config.json' && !name.startsWith('.')) await symlink(join(own, name), join(dir, name))
    const text = await readFile(join(own, 'config.json'), 'utf8').catch(() => '{}')
    await writeFile(join(dir, 'config.json'), withLogins(text, logins), { mode: 0o600, flag: 'wx' })
    return { dir, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/**
 * An empty helper means "in this file" for that host, also when `credsStore` names a store for all hosts: `getConfiguredCredentialStore` of
 * https://github.com/docker/cli/blob/master/cli/config/configfile/file.go
 */
function withLogins(text: string, logins: DockerLogin[]): string {
  const config = parse(text)
  const auths = Object.fromEntries(
    logins.map(({ host, username, password }) => [host, { auth: Buffer.from(`${username}:${password}`).toString('base64') }]),
  )
  const helpers = Object.fromEntries(logins.map(({ host }) => [host, '']))
  return JSON.stringify({
    ...config,
    auths: { ...object(config.auths), ...auths },
    credHelpers: { ...object(config.credHelpers), ...helpers },
  })
}

const object = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

function parse(text: string): Record<string, unknown> {
  try {
    return object(JSON.parse(text))
  } catch {
    return {}
  }
}
