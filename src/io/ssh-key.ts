import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive, processStart } from './child-record.ts'
import { secretsHome } from './secrets.ts'
import { tool } from './tool.ts'

/** `bake-key-<pid>-<start of the process>-<random>`: tells the sweeper whether its owner lives. */
const DIRECTORY = /^bake-key-(\d+)-([0-9A-Za-z.]+)-[0-9a-f]+$/

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
  const { dir: home } = await secretsHome(process.env)
  await sweep(home)
  const dir = join(home, `bake-key-${process.pid}-${processStart(process.pid) ?? '0'}-${randomBytes(6).toString('hex')}`)
  const forget = () => rm(dir, { recursive: true, force: true })
  try {
    await mkdir(dir, { mode: 0o700 })
    const privateKeyPath = join(dir, 'key')
    await tool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'bake', '-f', privateKeyPath], { signal })
    const publicKey = (await readFile(`${privateKeyPath}.pub`, 'utf8')).trim()
    return { privateKeyPath, publicKey, knownHostsPath: join(dir, 'known_hosts'), [Symbol.asyncDispose]: forget }
  } catch (error) {
    await forget()
    throw error
  }
}

async function sweep(home: string): Promise<void> {
  for (const name of await readdir(home).catch(() => [])) {
    const [, pid, start] = DIRECTORY.exec(name) ?? []
    if (pid === undefined || start === undefined || isAlive(Number(pid), start)) continue
    // Another user's is not ours to remove.
    await rm(join(home, name), { recursive: true, force: true }).catch(() => {})
  }
}
