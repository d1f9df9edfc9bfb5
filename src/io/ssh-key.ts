import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { secretsDirectory, sweepSecrets } from './secrets.ts'
import { tool } from './tool.ts'

export interface SshKey extends AsyncDisposable {
  /** A 0600 file in memory. */
  privateKeyPath: string
  /** One line of an authorized_keys file. */
  publicKey: string
  /** Where host keys of machines that it is used with may be kept: gone with the key. */
  knownHostsPath: string
}

/** A key pair for one machine of one run; dispose forgets it. Removes those of processes that were killed. Throws tool_missing (exit 4). */
export async function makeSshKey(signal?: AbortSignal): Promise<SshKey> {
  await sweepSecrets()
  const { dir, [Symbol.asyncDispose]: forget } = await secretsDirectory(process.env)
  try {
    const privateKeyPath = join(dir, 'key')
    await tool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'bake', '-f', privateKeyPath], { signal })
    const publicKey = (await readFile(`${privateKeyPath}.pub`, 'utf8')).trim()
    return { privateKeyPath, publicKey, knownHostsPath: join(dir, 'known_hosts'), [Symbol.asyncDispose]: forget }
  } catch (error) {
    await forget()
    throw error
  }
}
