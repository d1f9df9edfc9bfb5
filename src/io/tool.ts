import { text } from 'node:stream/consumers'
import { type BakeError, errnoOf, failed, unavailable } from '../errors.ts'
import { spawnChild } from './child.ts'

/** Where distributions keep mkfs.vfat, mkfs.ext4 and losetup; not on every user's PATH. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin']
/** The end of what a tool says is where it says why. */
const TAIL_CHARS = 600

/** The machine tools' packages by command, on Debian and Ubuntu. */
const PACKAGES: Record<string, string> = {
  'qemu-img': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-system-aarch64': 'qemu-system-arm',
  'mkfs.vfat': 'dosfstools',
  mcopy: 'mtools',
  mdir: 'mtools',
  'ssh-keygen': 'openssh-client',
  ssh: 'openssh-client',
  docker: 'docker-cli',
  mmdebstrap: 'mmdebstrap',
  extlinux: 'extlinux',
  unshare: 'util-linux',
}

/** This process's environment with the directories of system tools in PATH, and messages in English. */
export const toolEnvironment = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv => ({
  ...env,
  PATH: [...(env.PATH ?? '').split(':').filter(Boolean), ...SBIN].join(':'),
  LC_ALL: 'C',
})

/** What is told when `command` isn't there: tool_missing (exit 4), with its package. */
export const toolMissing = (command: string): BakeError =>
  unavailable('tool_missing', `${command} is not installed`, {
    next: `bin/setup --machines installs it on Debian and Ubuntu (package ${PACKAGES[command] ?? command})`,
    ids: { tool: command },
  })

/** What an error of `spawnChild` means: no such command becomes tool_missing, anything else stays. */
export const orToolMissing = (error: unknown, command: string): unknown =>
  errnoOf(error) === 'ENOENT' ? toolMissing(command) : error

export interface ToolOptions {
  cwd?: string
  stdin?: Uint8Array | string
  signal?: AbortSignal | undefined
  /** Added to the environment. */
  env?: NodeJS.ProcessEnv
}

/**
 * What a tool prints on stdout. It runs as long as it takes, and dies with this process. Throws tool_missing (exit 4) or tool_failed (exit 3) with the
 * end of what it said.
 */
export async function tool(command: string, args: string[], options: ToolOptions = {}): Promise<string> {
  const { env, ...rest } = options
  try {
    await using child = spawnChild(command, args, {
      ...rest,
      env: { ...toolEnvironment(), ...env },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [stdout, stderr, exit] = await Promise.all([text(child.stdout!), text(child.stderr!), child.exited])
    options.signal?.throwIfAborted()
    if (exit.code === 0) return stdout
    const said = (stderr.trim() || stdout.trim()).slice(-TAIL_CHARS)
    const how = exit.signal === null ? `exit code ${exit.code}` : exit.signal
    throw failed('tool_failed', `${command} failed (${how}): ${said || 'it said nothing'}`, { ids: { tool: command } })
  } catch (error) {
    throw orToolMissing(error, command)
  }
}
