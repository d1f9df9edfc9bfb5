import { resolve } from 'node:path'

/** What the default worker reads of its environment (docs/design.md §5): secrets, the directory that has them as files, the SSH agent. Nothing else. */
const HANDED = /^(?:BAKE_SECRET_[A-Z0-9_]+|BAKE_SECRETS_DIR|SSH_AUTH_SOCK)$/

/**
 * The variables of a client's environment that a host which runs already needs for its jobs: it was started with those of whoever came first.
 * Blank ones count as unset. A relative BAKE_SECRETS_DIR is made absolute: the host works in another directory.
 */
export function variablesToHand(env: NodeJS.ProcessEnv, cwd: string): Record<string, string> {
  const set = Object.entries(env).flatMap(([name, value]) =>
    HANDED.test(name) && value !== undefined && value.trim() !== '' ? [[name, value] as const] : [],
  )
  return Object.fromEntries(set.map(([name, value]) => [name, name === 'BAKE_SECRETS_DIR' ? resolve(cwd, value) : value]))
}

/** Puts what a client handed over into `env`, where the newest value counts. They stay in memory: nothing of them is written, logged or told to others. */
export function takeVariables(given: unknown, env: NodeJS.ProcessEnv): void {
  if (typeof given !== 'object' || given === null) return
  for (const [name, value] of Object.entries(given))
    if (HANDED.test(name) && typeof value === 'string' && !value.includes('\0')) env[name] = value
}
