import type { ImageDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { GitObjects, TreeEntry } from '../io/git-objects.ts'
import { closest } from '../nearest.ts'
import { formatPlatform, parsePlatform } from '../platform-name.ts'
import { analyse, type DockerfileAnalysis } from './dockerfile.ts'
import { directoriesAbove, followPath, inDirectory, joinPath, TREE } from './inputs-paths.ts'
import { refuseSpecialFiles } from './inputs-special.ts'
import type { PinRequest } from './pins.ts'

/** Everything that decides an image's content but the pins, read from a commit. Paths are from the repository's root, links resolved; '' is the root. */
export interface ImageInputs {
  contextPath: string
  /** Git id of the context's tree. */
  contextTree: string
  dockerfilePath: string
  dockerfileBlob: string
  dockerfileText: string
  dockerignore?: Uint8Array
  dockerignoreBlob?: string
  /** `.gitattributes` above the contexts: they decide what a checkout writes. */
  attributes: { path: string; blob: string }[]
  /** Named contexts that are directories: name → path. */
  contextPaths: Record<string, string>
  /** All named contexts: name → `tree:<git id>` or `image:<reference>`. */
  contexts: Record<string, string>
  args: Record<string, string>
  target?: string | undefined
  /** Normalised, sorted. */
  platforms: string[]
  network?: string | undefined
  /** Ids only; values never get near a key. */
  secrets: string[]
  ssh: string[]
  submodules: boolean
  lfs: boolean
  attest: boolean
  maxAgeSeconds?: number | undefined
  analysis: DockerfileAnalysis
  /** What resolvePins has to pin. */
  references: PinRequest[]
  warnings: string[]
}

const IMAGE_CONTEXT = 'docker-image://'
/** Suggestions in one message. */
const MAX_NAMED = 5

/**
 * Reads an image's inputs from git objects: no checkout. `prefix`: bake.yaml's directory, '' or `sub/`. `platforms`: those that are built.
 * Throws, all exit 2: bad_path, symlink_escapes, missing_context, missing_dockerfile, submodule_content, lfs_content, unpinned_url (strict) and what
 * analyse throws.
 */
export async function collectInputs(
  objects: GitObjects,
  commit: string,
  prefix: string,
  definition: ImageDefinition,
  platforms: readonly string[],
): Promise<ImageInputs> {
  const context = await directoryAt(objects, commit, prefix, definition.context, `the context of ${definition.name}`)
  const named = Object.entries(definition.contexts)
  const directories: [name: string, entry: TreeEntry][] = await Promise.all(
    named
      .filter(([, source]) => !source.startsWith(IMAGE_CONTEXT))
      .map(async ([name, source]) => [
        name,
        await directoryAt(objects, commit, prefix, source, `the context ${name} of ${definition.name}`),
      ]),
  )
  const all = [...new Set([context.path, ...directories.map(([, { path }]) => path)])]
  const special = { submodules: definition.submodules, lfs: definition.lfs, image: definition.name }
  const [dockerfile, attributes] = await Promise.all([
    readDockerfile(objects, commit, context.path, definition),
    attributesAbove(objects, commit, all),
    ...all.map((path) => refuseSpecialFiles(objects, commit, path, special)),
  ])
  const analysis = analyse(dockerfile.dockerfileText, {
    args: definition.args,
    target: definition.target,
    platforms,
    contexts: named.map(([name]) => name),
  })
  const images = named.filter(([, source]) => source.startsWith(IMAGE_CONTEXT))
  return {
    contextPath: context.path,
    contextTree: context.oid,
    ...dockerfile,
    attributes,
    contextPaths: Object.fromEntries(directories.map(([name, { path }]) => [name, path])),
    contexts: Object.fromEntries([
      ...directories.map(([name, { oid }]) => [name, `tree:${oid}`]),
      ...images.map(([name, source]) => [name, `image:${source.slice(IMAGE_CONTEXT.length)}`]),
    ]),
    args: definition.args,
    target: definition.target,
    platforms: [...new Set(platforms.map((platform) => formatPlatform(parsePlatform(platform))))].sort(),
    network: definition.network,
    secrets: definition.secrets.map(({ id }) => id),
    ssh: definition.ssh,
    submodules: definition.submodules,
    lfs: definition.lfs,
    attest: definition.attest,
    maxAgeSeconds: definition.maxAgeSeconds,
    analysis,
    references: [
      ...analysis.externals.map(({ reference, use, line }) => ({ reference, use, line })),
      ...images.map(([, source]) => ({ reference: source.slice(IMAGE_CONTEXT.length), use: 'context' as const })),
    ],
    warnings: unpinnedUrls(analysis, definition),
  }
}

async function directoryAt(objects: GitObjects, commit: string, prefix: string, path: string, what: string): Promise<TreeEntry> {
  const from = joinPath(prefix, path, what)
  const entry = await followPath(objects, commit, from, what)
  if (entry?.mode === TREE) return entry
  const files = await objects.tree(commit, '')
  const there = [...new Set(files.flatMap((file) => directoriesAbove(file.path)))].filter((one) => one !== '').sort()
  const near = closest(from, there)
  const top = there.filter((one) => !one.includes('/')).slice(0, MAX_NAMED)
  throw refused('missing_context', `${what}: commit ${commit.slice(0, 12)} has no directory ${from === '' ? '.' : from}`, {
    next: near
      ? `did you mean ${near}?`
      : `git add it and commit, or correct bake.yaml${top.length > 0 ? ` (the commit has ${top.join(', ')})` : ''}`,
    ids: { commit, path: from },
  })
}

type DockerfileInputs = Pick<
  ImageInputs,
  'dockerfilePath' | 'dockerfileBlob' | 'dockerfileText' | 'dockerignore' | 'dockerignoreBlob'
>

async function readDockerfile(
  objects: GitObjects,
  commit: string,
  context: string,
  definition: ImageDefinition,
): Promise<DockerfileInputs> {
  const written = joinPath(context, definition.dockerfile, `the Dockerfile of ${definition.name}`)
  const read = async (path: string, what: string) => {
    const entry = await followPath(objects, commit, path, what)
    const bytes = entry && entry.mode !== TREE ? await objects.file(commit, entry.path) : undefined
    return entry && bytes ? { ...entry, bytes } : undefined
  }
  const ignores = [`${written}.dockerignore`, inDirectory(context, '.dockerignore')]
  const [file, own, common] = await Promise.all([
    read(written, `the Dockerfile of ${definition.name}`),
    ...ignores.map((path) => read(path, 'the .dockerignore')),
  ])
  if (!file) throw await missingDockerfile(objects, commit, context, written, definition)
  const ignore = own ?? common
  return {
    // By the name that bake.yaml says: BuildKit looks for `<name>.dockerignore`.
    dockerfilePath: written,
    dockerfileBlob: file.oid,
    dockerfileText: Buffer.from(file.bytes).toString('utf8'),
    ...(ignore ? { dockerignore: ignore.bytes, dockerignoreBlob: ignore.oid } : {}),
  }
}

/** `dockerfile:` counts from the context: whoever wrote it from bake.yaml's directory is told the right way. */
async function missingDockerfile(
  objects: GitObjects,
  commit: string,
  context: string,
  written: string,
  definition: ImageDefinition,
) {
  const inside = context === '' ? '' : `${context}/`
  const there = (await objects.tree(commit, context))
    .map(({ path }) => path)
    .filter(
      (path) => /(?:^|\/)(?:[^/]*[._-])?(?:docker|container)file(?:[._-][^/]*)?$/i.test(path) && !path.endsWith('.dockerignore'),
    )
    .sort((a, b) => a.split('/').length - b.split('/').length || (a < b ? -1 : 1))
  const found = there.slice(0, MAX_NAMED)
  return refused('missing_dockerfile', `image ${definition.name}: commit ${commit.slice(0, 12)} has no Dockerfile ${written}`, {
    next:
      found.length > 0
        ? `set images.${definition.name}.dockerfile: ${found[0]} (a path from the context${found.length > 1 ? `; there are also ${found.slice(1).join(', ')}` : ''})`
        : `there is none below ${inside === '' ? 'the repository' : inside}: write one, git add it and commit`,
    ids: { image: definition.name, path: written, commit },
  })
}

async function attributesAbove(objects: GitObjects, commit: string, paths: string[]): Promise<{ path: string; blob: string }[]> {
  const directories = [...new Set(paths.flatMap(directoriesAbove))].sort()
  const entries = await Promise.all(
    directories.map((directory) => objects.entry(commit, inDirectory(directory, '.gitattributes'))),
  )
  return entries.flatMap((entry) => (entry && entry.mode !== TREE ? [{ path: entry.path, blob: entry.oid }] : []))
}

function unpinnedUrls({ urls }: DockerfileAnalysis, definition: ImageDefinition): string[] {
  const texts = urls
    .filter(({ pinned }) => !pinned)
    .map(({ url, line }) => `line ${line}: ADD ${redact(url)} can give other content each time, with the same image key`)
  if (texts.length === 0 || !definition.strict) return texts
  throw refused('unpinned_url', `image ${definition.name} is strict, but ${texts.join('; ')}`, {
    next: 'write ADD --checksum=sha256:… <url>, or for Git #<full commit id>',
    ids: { image: definition.name },
  })
}

/** Without a user name or password in it. */
const redact = (url: string): string => url.replace(/\/\/[^/@]*@/, '//***@')
