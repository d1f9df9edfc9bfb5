import { access, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { contradictions } from './config/contradictions.ts'
import { definition } from './config/definition.ts'
import { parseDocument } from './config/document.ts'
import { problemsOf } from './config/problems.ts'
import { resolveConfig } from './config/resolve.ts'
import type { Config, ConfigProblem } from './config/types.ts'
import { BakeError, EXIT, errnoOf, messageOf, refused } from './errors.ts'

export { nearest } from './config/suggest.ts'
export type * from './config/types.ts'

export const CONFIG_NAME = 'bake.yaml'

/** `config_invalid` (exit 2): everything that is wrong in one bake.yaml. */
export class ConfigError extends BakeError {
  readonly problems: ConfigProblem[]

  constructor(file: string, problems: ConfigProblem[]) {
    super('user', EXIT.refused, 'config_invalid', problems.map((problem) => formatProblem(file, problem)).join('\n'), {
      next: `correct ${file}; docs/bake-yaml.md has every setting`,
      ids: { config: file },
    })
    this.problems = problems
  }
}

/** `bake.yaml:12: images.web.contxt: unknown key (did you mean context?)` */
const formatProblem = (file: string, { line, path, message, suggestion }: ConfigProblem): string =>
  `${file}${line === undefined ? '' : `:${line}`}: ${path === '' ? '' : `${path}: `}${message}${suggestion === undefined ? '' : ` (did you mean ${suggestion}?)`}`

/**
 * Parses and validates the text of a bake.yaml; `file` names it in messages and in the result. Reads nothing from disk, so that a commit's own
 * bake.yaml can be parsed. Throws ConfigError (exit 2) with all problems at once.
 */
export function parseConfig(text: string, file: string): Config {
  if (text === parsed?.text) return { ...parsed.config, file }
  const config = parseAnew(text, file)
  parsed = { text, config }
  return config
}

/** The last one: a commit's bake.yaml is mostly the one that was read before, here and in a worker. */
let parsed: { text: string; config: Config } | undefined

function parseAnew(text: string, file: string): Config {
  const document = parseDocument(text)
  if (document.problems.length > 0 && document.value === undefined) throw new ConfigError(file, document.problems)
  const result = definition.safeParse(document.value, { jitless: true })
  const problems = [
    ...document.problems,
    ...(result.success ? [] : problemsOf(result.error.issues, document)),
    ...contradictions(document),
  ].sort((a, b) => (a.line ?? 0) - (b.line ?? 0))
  if (problems.length > 0 || !result.success) throw new ConfigError(file, problems)
  return resolveConfig(result.data, document, file)
}

/**
 * The bake.yaml of `startDir` or of the nearest directory above, up to the top of the git work tree: one beyond it can't be part of a commit.
 * Throws `config_missing` (exit 2).
 */
export async function findConfig(startDir: string): Promise<string> {
  const start = resolve(startDir)
  for (let dir = start; ; dir = dirname(dir)) {
    const file = join(dir, CONFIG_NAME)
    if (await exists(file)) return file
    if (await exists(join(dir, 'bake.yml')))
      throw refused('config_missing', `${join(dir, 'bake.yml')} must be called ${CONFIG_NAME}`, {
        next: `mv -- ${join(dir, 'bake.yml')} ${file}`,
      })
    if (dirname(dir) === dir || (await exists(join(dir, '.git')))) break
  }
  throw refused('config_missing', `there is no ${CONFIG_NAME} in ${start} or above it`, { next: 'bake init' })
}

/** The bake.yaml that BAKE_CONFIG names, else the one that `findConfig` finds. */
export const locateConfig = async (startDir: string): Promise<string> =>
  process.env.BAKE_CONFIG ? resolve(startDir, process.env.BAKE_CONFIG) : findConfig(startDir)

/** Reads and parses one bake.yaml. Throws `config_missing`, `config_unreadable` or ConfigError (all exit 2). */
export async function loadConfig(file: string): Promise<Config> {
  const path = resolve(file)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw refused('config_missing', `there is no ${path}`, { next: 'bake init', cause: error })
    throw refused('config_unreadable', `can't read ${path}: ${messageOf(error)}`, {
      next: 'check its permissions',
      cause: error,
    })
  }
  const near = relative(process.cwd(), path)
  const shown = near.startsWith('..') ? path : near
  return { ...parseConfig(text, shown), file: path }
}

const exists = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
