import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { basicHeader } from './registry-auth.ts'
import type { RegistryLogins } from './registry-logins.ts'
import { secretsDirectory } from './secrets.ts'

/**
 * Logins for `hosts` as a docker config.json, in a directory in memory that is brought to a machine and removed on dispose (after a kill by the sweeper of
 * secrets). Undefined when no host wants one. Throws what RegistryLogins.credentials throws.
 */
export async function writeMachineLogin(
  hosts: string[],
  logins: Pick<RegistryLogins, 'credentials'>,
): Promise<({ dir: string; secrets: string[] } & AsyncDisposable) | undefined> {
  const found = await Promise.all(hosts.map(async (host) => ({ host, login: await logins.credentials(host) })))
  const auths: Record<string, object> = {}
  const secrets: string[] = []
  for (const { host, login } of found) {
    if (!login) continue
    const { password, identityToken } = login
    const auth = basicHeader(login).replace(/^Basic /, '')
    auths[host] = { auth, ...(identityToken !== undefined && { identitytoken: identityToken }) }
    secrets.push(...[auth, password, identityToken ?? ''].filter((secret) => secret !== ''))
  }
  if (secrets.length === 0) return undefined
  const { dir, [Symbol.asyncDispose]: dispose } = await secretsDirectory(process.env)
  try {
    await writeFile(join(dir, 'config.json'), JSON.stringify({ auths }), { mode: 0o600, flag: 'wx' })
    return { dir, secrets, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}
