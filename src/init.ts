import { access, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import { CONFIG_NAME, parseConfig } from './config.ts'
import { errnoOf, refused } from './errors.ts'
import type { PrintBake } from './init/bake-files.ts'
import { discover } from './init/discover.ts'
import { type Found, nameFrom } from './init/found.ts'
import { renderConfig } from './init/render.ts'
import { NAME_PATTERN } from './names.ts'
import { packageFile } from './package-root.ts'

export interface InitRequest {
  /** Where bake.yaml goes; what it describes is there and below. */
  dir: string
  project?: string | undefined
  /** A compose file, docker-bake file or Dockerfile, from `dir`; none: what is found. */
  from?: string | undefined
  /** Replace a bake.yaml. */
  force: boolean
}

/** What will be written, and what the user may still choose from. */
export interface InitPlan extends Found {
  file: string
  project: string
  force: boolean
}

/**
 * Looks at a directory and plans its bake.yaml; writes nothing. Throws `config_exists`, `nothing_to_build`, `project_invalid`, `source_missing`,
 * `source_unknown` (exit 2), and for a named `from` what `docker buildx bake` says of it (bake_file_refused, exit 2; buildx_missing, exit 4).
 */
export async function planInit({ dir, project, from, force }: InitRequest, print: PrintBake): Promise<InitPlan> {
  const file = join(resolve(dir), CONFIG_NAME)
  if (!force && (await exists(file))) throw alreadyThere(file)
  const name = checkProject(project ?? nameFrom(basename(resolve(dir))))
  const found = await discover(resolve(dir), name, from, print)
  if (found.images.length === 0) {
    const why = found.leftOut.map(({ name, reason }) => `${name}: ${reason}`).join('; ')
    throw refused(
      'nothing_to_build',
      `nothing in ${from ?? dir} can be built${why === '' ? ': there is no Dockerfile, compose file or docker-bake file' : ` (${why})`}`,
      {
        next: found.notes[0] ?? 'write a Dockerfile, or name a file: bake init --from FILE',
      },
    )
  }
  return { ...found, file, project: name, force }
}

/** `project` when it is a valid name. Throws `project_invalid` (exit 2). */
export function checkProject(project: string): string {
  if (NAME_PATTERN.test(project) && project.length <= 128) return project
  throw refused(
    'project_invalid',
    `${JSON.stringify(project)} can't be a project's name: lower-case letters, digits and single . _ - between them`,
    {
      next: `bake init --project ${nameFrom(project)}`,
    },
  )
}

/** The text of the planned bake.yaml; it is valid. */
export function planText(plan: InitPlan, schema: string | undefined): string {
  const text = renderConfig({ ...plan, schema })
  parseConfig(text, CONFIG_NAME)
  return text
}

/** Writes it: all of it or nothing, and over another one only with `force`. Throws `config_exists` (exit 2). */
export async function applyInit(plan: InitPlan, text: string): Promise<void> {
  if (!plan.force) {
    await writeFile(plan.file, text, { flag: 'wx' }).catch((error: unknown) => {
      throw errnoOf(error) === 'EEXIST' ? alreadyThere(plan.file) : error
    })
    return
  }
  const temporary = `${plan.file}.${process.pid}.new`
  try {
    await writeFile(temporary, text, { flag: 'wx' })
    await rename(temporary, plan.file)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Where editors find the schema, from `dir`, when bakehouse is installed or checked out there; a path that is true only on this machine doesn't belong into a commit. */
export async function schemaFor(dir: string): Promise<string | undefined> {
  const installed = 'node_modules/bakehouse/schema/bake.schema.json'
  if (await exists(join(dir, installed))) return `./${installed}`
  const own = packageFile('schema/bake.schema.json')
  const near = relative(resolve(dir), own).split(sep).join('/')
  return near.startsWith('..') ? undefined : `./${near}`
}

const alreadyThere = (file: string) =>
  refused('config_exists', `${file} is there already`, {
    next: 'edit it, look at another one with bake init --dry-run --force, or replace it with --force',
    ids: { config: file },
  })

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
