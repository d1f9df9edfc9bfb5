import { fetchEnv, quietSsh } from './git-env.ts'
import { runGit } from './git-run.ts'
import { isLocalSource } from './sources.ts'

export interface SourceEnvOptions {
  allowLocal: boolean
  /** Says which repository's own settings count, `--git-dir=…`; none unless told. */
  args?: string[]
  tied?: boolean
  signal?: AbortSignal | undefined
}

/** The environment for a git that talks to `source`: with the user's settings, and an ssh that never asks anybody anything. */
export async function sourceEnv(source: string, options: SourceEnvOptions): Promise<NodeJS.ProcessEnv> {
  const { allowLocal, args = [], tied = false, signal } = options
  const env = fetchEnv(allowLocal)
  if (isLocalSource(source) || process.env.GIT_SSH !== undefined || source.startsWith('https:')) return env
  const { stdout } = await runGit([...args, 'config', 'core.sshCommand'], { env, tied, signal })
  return { ...env, GIT_SSH_COMMAND: quietSsh(stdout.toString().trim()) }
}

/** Version 2 servers give any commit by id, and only the refs that are asked for (gitprotocol-v2). A minute under 1 KB/s is no transfer any more. */
export const sourceSettings = (source: string): string[] =>
  Object.entries({
    'protocol.version': '2',
    'core.hooksPath': '/dev/null',
    'fetch.writeCommitGraph': 'false',
    'gc.auto': '0',
    ...(isLocalSource(source) ? {} : { 'http.lowSpeedLimit': '1000', 'http.lowSpeedTime': '60' }),
  }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
