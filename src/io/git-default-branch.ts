import { isBranchName } from '../names.ts'
import { runGit } from './git-run.ts'
import { sourceEnv, sourceSettings } from './git-source.ts'
import { isLocalSource } from './sources.ts'

/** Who asks wants a hint for caches: a source that is slow to tell is not waited for. */
const PATIENCE_MS = 5_000
/** A default branch is renamed once in a repository's life, if ever. */
const KEPT_MS = 60 * 60_000

const known = new Map<string, { at: number; name: Promise<string | undefined> }>()

/**
 * The default branch of a repository, kept for an hour: what its HEAD names (git-ls-remote(1) --symref) or, of a checkout on this machine, whose HEAD is whatever
 * is checked out, what its origin's did when it was cloned. Undefined when it has none or can't be asked, which throws nothing.
 */
export function defaultBranch(source: string, options: { allowLocal: boolean }): Promise<string | undefined> {
  const before = known.get(source)
  if (before && performance.now() - before.at < KEPT_MS) return before.name
  const name = ask(source, options).catch(() => {
    known.delete(source)
    return undefined
  })
  known.set(source, { at: performance.now(), name })
  return name
}

async function ask(source: string, { allowLocal }: { allowLocal: boolean }): Promise<string | undefined> {
  const [ref, root] = isLocalSource(source) ? ['refs/remotes/origin/HEAD', 'refs/remotes/origin/'] : ['HEAD', 'refs/heads/']
  const signal = AbortSignal.timeout(PATIENCE_MS)
  const env = await sourceEnv(source, { allowLocal, tied: true, signal })
  const args = [...sourceSettings(source), 'ls-remote', '--symref', '--', source, ref]
  const { code, stdout } = await runGit(args, { env, tied: true, signal })
  if (code !== 0) throw new Error(`git ls-remote ended with ${code}`)
  const target = new RegExp(`^ref: ${root}(\\S+)\\t${ref}$`, 'm').exec(stdout.toString())?.[1]
  return target !== undefined && isBranchName(target) ? target : undefined
}
