import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
const NAME = 'nobody'

/** Somebody who isn't root but may use the engine, with a machine's files as they are: what is changed for the test is seen by its processes only. */
export interface User extends AsyncDisposable {
  name: string
  /** Put before a command: runs it as this user. */
  prefix: string[]
  /** Put before a command: root sees what the user sees. */
  rootPrefix: string[]
}

/** Enters the namespace, and stays in the directory. */
const enter = (pid: number): string[] => [...['nsenter', `--mount=/proc/${pid}/ns/mnt`, 'sh', '-c', 'cd "$0" && exec "$@"']]

/**
 * The checkout may lie where only root may look: each directory above it that is closed to others is covered by one that isn't, with the checkout in it. `sudoers`: what
 * /etc/sudoers says.
 */
export async function makeUser(directory: string, { sudoers = '' }: { sudoers?: string } = {}): Promise<User> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-user-'))
  await writeFile(join(dir, 'sudoers'), sudoers, { mode: 0o440 })
  const closed = await closedAbove(CHECKOUT)
  const script = `set -eu
    mount --bind "$1/sudoers" /etc/sudoers
    if [ -n "$2" ]; then
      mount --bind "$3" /mnt
      mount -t tmpfs -o mode=755 tmpfs "$2"
      mkdir -p "$3"
      mount --move /mnt "$3"
    fi
    echo ready
    exec sleep infinity`
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', dir, closed, CHECKOUT], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said] = (await once(holder.stdout!, 'data')) as [Buffer]
  if (!said.toString().startsWith('ready')) throw new Error(`no namespace for the user: ${said}`)
  const { gid } = await stat('/var/run/docker.sock')
  const rootPrefix = [...enter(holder.pid!), directory]
  return {
    name: NAME,
    rootPrefix,
    prefix: [...rootPrefix, 'setpriv', `--reuid=${NAME}`, '--regid=nogroup', `--groups=${gid}`, '--inh-caps=-all', '--'],
    async [Symbol.asyncDispose]() {
      await ended(holder)
      await rm(dir, { recursive: true })
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  const end = once(child, 'close')
  child.kill('SIGKILL')
  await end
}

/** The topmost directory above `path` that others may not look into, or ''. */
async function closedAbove(path: string): Promise<string> {
  const parts = path.split('/').slice(1)
  for (let n = 1; n <= parts.length; n++) {
    const above = `/${parts.slice(0, n).join('/')}`
    if (((await stat(above)).mode & 0o005) !== 0o005) return above
  }
  return ''
}

/** Gives all below `dir` to the user. */
export const giveTo = async (user: User, dir: string): Promise<void> => void (await run('chown', ['-R', `${user.name}:`, dir]))
