import type { Config, ImageDefinition, MachineDefinition } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import type { GitObjects } from '../io/git-objects.ts'
import type { Release, SetupScript } from './machine.ts'

/** What reading a release's commit needs. */
export interface SourceWorld {
  objects: Pick<GitObjects, 'file' | 'tree'>
  /** Path of bake.yaml in the repository. */
  configPath: string
  parseConfig(text: string, file: string): Config
}

/** What a release's commit says of its machine. */
export interface MachineSource {
  release: Release
  project: string
  definition: MachineDefinition
  /** All images that the commit's bake.yaml defines. */
  images: ImageDefinition[]
  setup: SetupScript[]
  /** Templates of the user's, by their path from `machine.templates`. */
  templates: Map<string, string>
}

/**
 * The machine of a release, from the bake.yaml of its commit, with the scripts and templates that it names. Throws (exit 2) config_missing, config_invalid,
 * machine_missing, setup_missing, templates_missing or not_text.
 */
export async function readSource(release: Release, world: SourceWorld, variant = 0): Promise<MachineSource> {
  const { name, commit } = { name: world.configPath, commit: release.commit }
  const bytes = await world.objects.file(commit, name)
  if (!bytes)
    throw refused('config_missing', `release ${release.name} (commit ${commit.slice(0, 12)}) has no ${name}`, {
      next: `a machine image is defined by the bake.yaml of its release: commit one, then tag that commit`,
      ids: { release: release.name, commit },
    })
  const config = parseCommitted(Buffer.from(bytes).toString('utf8'), release, world)
  if (config.machine === undefined)
    throw refused('machine_missing', `${name} of release ${release.name} (commit ${commit.slice(0, 12)}) has no machine:`, {
      next: 'add machine: with a base and services, commit it, and tag that commit (docs/bake-yaml.md)',
      ids: { release: release.name, commit },
    })
  const { images, project } = config
  const definition = variantOf(config.machine, variant)
  const dir = name.slice(0, name.lastIndexOf('/') + 1)
  const [setup, templates] = await Promise.all([
    Promise.all(definition.setup.map((path) => readScript(path, dir, release, world))),
    definition.templates === undefined ? new Map() : readTemplates(dir + definition.templates, release, world),
  ])
  return { release: { name: release.name, commit }, project, definition, images, setup, templates }
}

/** The machine with what the nth of `also` has instead. */
function variantOf(machine: MachineDefinition, variant: number): MachineDefinition {
  if (variant === 0) return machine
  const other = machine.also[variant - 1]
  if (other === undefined) throw new Error(`there is no machine.also.${variant - 1}`)
  const { base: _base, instanceType: _type, launchTemplate: _template, ...same } = machine
  return { ...same, ...other }
}

/** Named as git names it: `git show <commit>:bake.yaml` prints what the line numbers are about. */
function parseCommitted(text: string, { commit }: Release, world: SourceWorld): Config {
  try {
    return world.parseConfig(text, `${commit.slice(0, 12)}:${world.configPath}`)
  } catch (error) {
    if (!(error instanceof BakeError)) throw error
    const { kind, exit, code, message, ids } = error
    const next = `a machine image is defined by the bake.yaml of its release: correct ${world.configPath}, commit it, then make a new tag`
    throw new BakeError(kind, exit, code, message, { next, ids, cause: error })
  }
}

async function readScript(path: string, dir: string, release: Release, world: SourceWorld): Promise<SetupScript> {
  const bytes = await world.objects.file(release.commit, dir + path)
  if (bytes) return { path, text: textOf(bytes, dir + path) }
  throw refused('setup_missing', `machine.setup names ${path}, which commit ${release.commit.slice(0, 12)} doesn't have`, {
    next: `git add ${dir}${path} && git commit; scripts are taken from the release's commit`,
    ids: { path: dir + path, commit: release.commit },
  })
}

async function readTemplates(dir: string, release: Release, world: SourceWorld): Promise<Map<string, string>> {
  const entries = await world.objects.tree(release.commit, dir)
  const files = entries.filter(({ mode }) => mode.startsWith('100'))
  if (files.length === 0)
    throw refused(
      'templates_missing',
      `machine.templates names ${dir}, which holds no file in commit ${release.commit.slice(0, 12)}`,
      {
        next: `git add ${dir} && git commit; templates are taken from the release's commit`,
        ids: { path: dir, commit: release.commit },
      },
    )
  const read = async ({ path }: { path: string }): Promise<[string, string]> => {
    const bytes = await world.objects.file(release.commit, `${dir}/${path}`)
    return [path, textOf(bytes ?? new Uint8Array(), `${dir}/${path}`)]
  }
  return new Map(await Promise.all(files.map(read)))
}

function textOf(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw refused('not_text', `${path} is not UTF-8 text`, {
      next: 'a script that needs a binary can fetch it from the images',
      ids: { path },
      cause,
    })
  }
}
