import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { waitFor } from '../wait.ts'
import { which } from './child.ts'
import { tool, toolMissing } from './tool.ts'

/** A machine in software emulation has its SSH server up after half a minute, on a busy processor after some. */
const READY_MS = 300_000
const EVERY_MS = 1_000

export interface SshTarget {
  /** On 127.0.0.1. */
  port: number
  privateKeyPath: string
  knownHostsPath: string
}

/** A machine's host key is as new as the machine: it is taken at first sight, and forgotten with the user's throwaway key. Nothing of the person's own settings counts. */
const options = ({ port, privateKeyPath, knownHostsPath }: SshTarget): string[] => [
  ...['-F', 'none', '-p', String(port), '-i', privateKeyPath],
  ...[
    'IdentitiesOnly=yes',
    'IdentityAgent=none',
    'StrictHostKeyChecking=accept-new',
    'BatchMode=yes',
    'ConnectTimeout=5',
    'LogLevel=ERROR',
  ]
    .concat(`UserKnownHostsFile=${knownHostsPath}`)
    .flatMap((option) => ['-o', option]),
]

/** Waits until root may log in. Throws timed_out (exit 5) after 5 minutes, tool_missing (exit 4). */
export async function waitForSsh(target: SshTarget, signal: AbortSignal): Promise<void> {
  if (which('ssh') === undefined) throw toolMissing('ssh')
  const args = [...options(target), 'root@127.0.0.1', '--', 'true']
  await waitFor(
    () =>
      tool('ssh', args, { signal }).then(
        () => true,
        () => undefined,
      ),
    {
      what: 'the machine’s SSH server',
      deadlineMs: READY_MS,
      intervalMs: EVERY_MS,
      signal,
    },
  )
}

/** Root's shell on the machine, on this process's own terminal, or a command in it; the exit code. */
export async function openShell(target: SshTarget, command: string[] = []): Promise<number> {
  const tty = process.stdin.isTTY ? ['-t'] : []
  // In this process's own group, which the terminal talks to.
  const child = spawn(
    'ssh',
    [...options(target), ...tty, 'root@127.0.0.1', ...(command.length === 0 ? [] : ['--', ...command])],
    {
      stdio: 'inherit',
    },
  )
  const [code] = await once(child, 'exit')
  return code ?? 255
}
