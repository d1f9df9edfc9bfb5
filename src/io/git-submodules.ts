import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { failed } from '../errors.ts'
import { readEnv, treeEnv } from './git-env.ts'
import { runGit } from './git-run.ts'
import type { Mirror } from './mirror.ts'
import { checkSource, isLocalSource, localPath } from './sources.ts'

export interface Submodule {
  path: string
  /** The commit that it stands at. */
  oid: string
  /** Where it may be fetched from, best first. */
  sources: string[]
}

const GITLINK = '160000'

/**
 * A commit's submodules and their repositories, from its own .gitmodules (gitmodules(5)). Throws submodule_unmapped or bad_repository (the user's).
 */
export async function submodulesOf(mirror: Mirror, commit: string, signal: AbortSignal): Promise<Submodule[]> {
  const links = (await mirror.objects.tree(commit, '')).filter(({ mode }) => mode === GITLINK)
  if (links.length === 0) return []
  const modules = await readModules(mirror, commit, signal)
  const base = await baseOf(mirror, signal)
  return Promise.all(
    links.map(async ({ path, oid }) => {
      const module = [...modules.entries()].find(([, known]) => known.path === path)
      const url = module?.[1].url
      if (module === undefined || url === undefined)
        throw failed('submodule_unmapped', `commit ${commit} has a submodule at ${path}, but .gitmodules names no URL for it`, {
          next: `git submodule add <url> '${path}', or git rm --cached '${path}'`,
          ids: { commit, path },
        })
      const source = resolveUrl(base, url)
      checkSource(source, { allowLocal: mirror.allowLocal })
      const local = await localModule(mirror, module[0], signal)
      return { path, oid, sources: local === undefined ? [source] : [local, source] }
    }),
  )
}

/** A submodule's URL against its parent's, as git-submodule(1) does it: `./` and `../` count from the parent repository itself. */
export function resolveUrl(base: string, url: string): string {
  if (!/^\.\.?(?:\/|$)/.test(url)) return url
  let [at, rest] = [base.replace(/\/+$/, ''), url]
  for (;;) {
    if (rest.startsWith('./')) rest = rest.slice(2)
    else if (rest === '.' || rest === '') return at
    else if (rest === '..' || rest.startsWith('../')) {
      rest = rest.slice(3)
      // The last `/` of a URL or path, else the `:` of host:path.
      const cut = Math.max(at.lastIndexOf('/'), at.includes('/') ? -1 : at.lastIndexOf(':') + 1)
      at = at.slice(0, Math.max(cut, 0))
    } else return at.endsWith(':') ? at + rest : `${at}/${rest}`
  }
}

async function readModules(
  mirror: Mirror,
  commit: string,
  signal: AbortSignal,
): Promise<Map<string, { path?: string; url?: string }>> {
  const modules = new Map<string, { path?: string; url?: string }>()
  const args = [
    `--git-dir=${mirror.dir}`,
    'config',
    '-z',
    `--blob=${commit}:.gitmodules`,
    '--get-regexp',
    '^submodule\\..*\\.(path|url)$',
  ]
  const { stdout } = await runGit(args, { env: treeEnv(), tied: true, signal })
  for (const item of stdout.toString('utf8').split('\0')) {
    const [key = '', value = ''] = [item.slice(0, item.indexOf('\n')), item.slice(item.indexOf('\n') + 1)]
    const match = /^submodule\.(.*)\.(path|url)$/s.exec(key)
    if (match === null) continue
    const [, name = '', what = ''] = match
    modules.set(name, { ...modules.get(name), [what]: value.replace(/(?<=.)\/+$/, '') })
  }
  return modules
}

/** In a checkout on this machine, relative URLs count from where it was cloned from, as git has it. */
async function baseOf(mirror: Mirror, signal: AbortSignal): Promise<string> {
  const { source } = mirror
  if (source === undefined) throw new Error(`${mirror.dir} was never fetched`)
  if (!isLocalSource(source)) return source
  const origin = await ask(localPath(source), ['config', '--get', 'remote.origin.url'], signal)
  return origin ?? localPath(source)
}

/** The checkout's own clone of the submodule: it may have commits that were never pushed. */
async function localModule(mirror: Mirror, name: string, signal: AbortSignal): Promise<string | undefined> {
  const { source } = mirror
  // The name becomes a path, and it is the commit's author who chose it.
  if (source === undefined || !isLocalSource(source) || name.split('/').some((part) => part === '' || part === '..'))
    return undefined
  const common = await ask(localPath(source), ['rev-parse', '--path-format=absolute', '--git-common-dir'], signal)
  const path = common && join(common, 'modules', name)
  return path !== undefined && existsSync(path) ? path : undefined
}

async function ask(dir: string, args: string[], signal: AbortSignal): Promise<string | undefined> {
  if (!existsSync(dir)) return undefined
  const { code, stdout } = await runGit(args, { cwd: dir, env: readEnv(), tied: true, signal })
  return code === 0 ? stdout.toString('utf8').trim() : undefined
}
