import type { Config, ImageDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { Engine } from '../io/engine.ts'
import type { GitObjects } from '../io/git-objects.ts'
import type { Ledger } from '../io/ledger.ts'
import type { Reference, Registry } from '../io/registry.ts'
import { Claims, readClaims, refreshClaims } from '../jobs/claims.ts'
import type { Pin } from '../jobs/job.ts'
import { type CommitDocument, commitDocumentSchema, type ImageDocument, imageDocumentSchema, read } from '../jobs/records.ts'
import { buildIdTime, keys, newBuildId, tags } from '../names.ts'
import { closest } from '../nearest.ts'
import { collectInputs } from './inputs.ts'
import { imageKey, KEY_SCHEMA } from './key.ts'
import { resolvePins } from './pins.ts'
import { branchHead } from './publish.ts'

/** What planning needs to know the world by. It reads; nothing is written. */
export interface PlanWorld {
  ledger: Ledger
  registry: Registry
  /** On one machine: bases that only this engine has count too. */
  engine?: Engine | undefined
  objects: GitObjects
  target(image: string): Reference
  defaultPlatforms: string[]
}

export interface Ask {
  commit: string
  branch?: string | undefined
  /** Empty: all. */
  images: string[]
  rebuild: boolean
}

/** One image of one commit, and what is left to do for it. */
export interface ImagePlan {
  image: string
  /** The id that the build gets if it is enqueued; its time is the plan's. */
  build: string
  key: string
  pins: Pin[]
  target: Reference
  /** `none`: done. `tag`: published already, this commit's tags are missing. `build`: nobody has published this key. */
  action: 'none' | 'tag' | 'build'
  reason: string
  published?: { digest: string; sizeBytes?: number | undefined; tag: string }
  /** The commit document to create, unless it is there. */
  document?: CommitDocument
  warnings: string[]
}

/** Plans every image that was asked for, in bake.yaml's order. `config` is the one of the commit; `prefix` is its directory in the repository. */
export async function planImages(
  ask: Ask,
  config: Config,
  prefix: string,
  world: PlanWorld,
  signal: AbortSignal,
): Promise<ImagePlan[]> {
  for (const name of ask.images) {
    if (config.images.some((image) => image.name === name)) continue
    const names = config.images.map((image) => image.name)
    const near = closest(name, names)
    throw refused(
      'unknown_image',
      `bake.yaml of commit ${ask.commit.slice(0, 12)} defines no image ${name}${near ? ` (did you mean ${near}?)` : ''}`,
      {
        next: `it defines: ${names.join(', ')}`,
      },
    )
  }
  const wanted = config.images.filter((image) => ask.images.length === 0 || ask.images.includes(image.name))
  return Promise.all(wanted.map((definition) => planImage(ask, definition, prefix, world, signal)))
}

async function planImage(
  ask: Ask,
  definition: ImageDefinition,
  prefix: string,
  world: PlanWorld,
  signal: AbortSignal,
): Promise<ImagePlan> {
  const target = world.target(definition.name)
  const build = newBuildId()
  const made = await keyAndPins(ask.commit, definition, prefix, target, buildIdTime(build), world, signal)
  const plan = { image: definition.name, build, target, ...made }
  if (ask.rebuild) return { ...plan, action: 'build', reason: 'a rebuild was asked for' }

  const document = await readPublished(world.ledger, made.key)
  if (!document) return { ...plan, action: 'build', reason: 'nobody has published this image key' }
  const tag = tags.commit(ask.commit, document.rebuilt)
  const [there, head] = await Promise.all([
    world.registry.head({ ...target, tag }),
    ask.branch === undefined ? undefined : branchHead(world.ledger, definition.name, ask.branch),
  ])
  const published = { digest: document.digest, sizeBytes: document.sizeBytes, tag }
  if (there?.digest !== document.digest)
    return { ...plan, published, action: 'tag', reason: 'the same content is published; this commit is not tagged' }
  if (ask.branch !== undefined && head?.commit !== ask.commit)
    return { ...plan, published, action: 'tag', reason: `branch ${ask.branch} does not name this commit` }
  return { ...plan, published, action: 'none', reason: 'published and tagged' }
}

/** A commit asked for again reads its pins and resolves nothing. */
async function keyAndPins(
  commit: string,
  definition: ImageDefinition,
  prefix: string,
  target: Reference,
  nowMs: number,
  world: PlanWorld,
  signal: AbortSignal,
): Promise<Pick<ImagePlan, 'key' | 'pins' | 'document' | 'warnings'>> {
  const repository = `${target.host}/${target.path}`
  const known = await read(world.ledger, keys.commit(commit, definition.name), commitDocumentSchema)
  if (known && known.keySchema === KEY_SCHEMA && known.target === repository && definition.maxAgeSeconds === undefined)
    return { key: known.key, pins: known.pins, warnings: [] }

  const platforms = definition.platforms.length > 0 ? definition.platforms : world.defaultPlatforms
  const inputs = await collectInputs(world.objects, commit, prefix, definition, platforms)
  const pins = known?.pins ?? (await resolvePins(inputs.references, { registry: world.registry, engine: world.engine, signal }))
  const key = imageKey(inputs, { repository, pins, nowMs })
  const document: CommitDocument = { version: 1, keySchema: KEY_SCHEMA, target: repository, key, pins }
  return { key, pins, warnings: inputs.warnings, ...(known ? {} : { document }) }
}

/** The newest publication of a key: the fast copy if the claim log didn't go on after it, else the log's word. */
export async function readPublished(ledger: Ledger, key: string): Promise<ImageDocument | undefined> {
  const document = await read(ledger, keys.image(key), imageDocumentSchema).catch(() => undefined)
  if (document && (await ledger.get(keys.claim(key, document.n + 1))) === undefined) return document
  const claims = await (document ? readClaims(ledger, key) : refreshClaims(ledger, new Claims(key, [])))
  const published = claims.published
  if (!published) return undefined
  const { n, digest, sizeBytes } = published
  return { version: 1, n, digest, sizeBytes, ...(claims.rebuiltBefore(n) ? { rebuilt: n } : {}) }
}
