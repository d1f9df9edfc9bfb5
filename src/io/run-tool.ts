import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** A tool that takes longer to answer a short question hangs. */
const TIMEOUT_MS = 10_000

/** What a program prints, trimmed. Throws what execFile throws when it isn't there, fails, or takes over 10 s. */
export async function runTool(
  command: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { ...options, timeout: TIMEOUT_MS })
  return stdout.trim()
}
