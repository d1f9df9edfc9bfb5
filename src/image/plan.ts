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
import { KEY_SCHEMA } from './key-schema.ts'
import { branchHead } from './publish.ts'

/** What planning needs to know the world by. It reads; nothing is written. */
export interface PlanWorld {
  ledger: Ledger
  registry: Registry
  /** On one machine: bases that only this engine has count too. */
  engine?: Pick<Engine, 'image'> | undefined
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
    const near = (await import('../nearest.ts')).closest(name, names)
    throw refused(
      'unknown_image',
      `bake.yaml of commit ${ask.commit.slice(0, 12)} defines no image ${name}${near ? ` (did you mean ${near}?)` : ''}`,
      {
        next: `it defines: ${names.join(', ')}`,
      },
    )
  }
  const wanted = config.images.filter((image) => ask.images.length === 0 || ask.images.includes(image.name))
  const keyed = await keyAndPins(ask.commit, wanted, prefix, world, signal)
  return Promise.all(wanted.map((definition, n) => planImage(ask, definition, keyed[n]!, world)))
}

async function planImage(ask: Ask, definition: ImageDefinition, keyed: Keyed, world: PlanWorld): Promise<ImagePlan> {
  const plan = { image: definition.name, target: world.target(definition.name), ...keyed }
  if (ask.rebuild) return { ...plan, action: 'build', reason: 'a rebuild was asked for' }

  const document = await readPublished(world.ledger, keyed.key)
  if (!document) return { ...plan, action: 'build', reason: 'nobody has published this image key' }
  const tag = tags.commit(ask.commit, document.rebuilt)
  const [plain, head] = await Promise.all([
    world.registry.head({ ...plan.target, tag }),
    ask.branch === undefined ? undefined : branchHead(world.ledger, definition.name, ask.branch),
  ])
  const other = tags.commitOfKey(ask.commit, keyed.key)
  const there = plain && plain.digest !== document.digest ? await world.registry.head({ ...plan.target, tag: other }) : plain
  const published = { digest: document.digest, sizeBytes: document.sizeBytes, tag: there === plain ? tag : other }
  if (there?.digest !== document.digest)
    return { ...plan, published, action: 'tag', reason: 'the same content is published; this commit is not tagged' }
  if (ask.branch !== undefined && head?.commit !== ask.commit)
    return { ...plan, published, action: 'tag', reason: `branch ${ask.branch} does not name this commit` }
  return { ...plan, published, action: 'none', reason: 'published and tagged' }
}

type Keyed = Pick<ImagePlan, 'build' | 'key' | 'pins' | 'document' | 'warnings'>

/** A commit asked for again reads its pins and resolves nothing; what several images of a new one name is resolved once. */
async function keyAndPins(
  commit: string,
  definitions: ImageDefinition[],
  prefix: string,
  world: PlanWorld,
  signal: AbortSignal,
): Promise<Keyed[]> {
  const known = await Promise.all(
    definitions.map(({ name }) => read(world.ledger, keys.commit(commit, name), commitDocumentSchema)),
  )
  const repositories = definitions.map(({ name }) => repositoryOf(world.target(name)))
  const settled = (n: number) =>
    known[n]?.keySchema === KEY_SCHEMA && known[n].target === repositories[n] && definitions[n]!.maxAgeSeconds === undefined
  if (definitions.every((_, n) => settled(n)))
    return known.map((document) => ({ build: newBuildId(), key: document!.key, pins: document!.pins, warnings: [] }))

  // Not needed for a commit asked for again, which is what has to be fastest.
  const [{ collectInputs }, { imageKey }, { resolvePins }] = await Promise.all([
    import('./inputs.ts'),
    import('./key.ts'),
    import('./pins.ts'),
  ])
  const inputs = await Promise.all(
    definitions.map((definition) =>
      collectInputs(
        world.objects,
        commit,
        prefix,
        definition,
        definition.platforms.length > 0 ? definition.platforms : world.defaultPlatforms,
      ),
    ),
  )
  const notes: string[] = []
  const wanted = inputs.flatMap(({ references }, n) => (known[n] ? [] : references))
  const resolved = await resolvePins(wanted, {
    registry: world.registry,
    engine: world.engine,
    signal,
    onNote: (text) => notes.push(text),
  })
  return inputs.map((input, n) => {
    const build = newBuildId()
    const own = new Set(input.references.map(({ reference }) => reference))
    const pins = known[n]?.pins ?? resolved.filter((pin) => own.has(pin.reference))
    const key = imageKey(input, { repository: repositories[n]!, pins, nowMs: buildIdTime(build) })
    const document: CommitDocument = { version: 1, keySchema: KEY_SCHEMA, target: repositories[n]!, key, pins }
    const warnings = [...input.warnings, ...notes.filter((note) => [...own].some((reference) => note.includes(reference)))]
    return { build, key, pins, warnings, ...(known[n] ? {} : { document }) }
  })
}

const repositoryOf = ({ host, path }: Reference) => `${host}/${path}`

/** The newest publication of a key: the fast copy if the claim log didn't go on after it, else the log's word. */
async function readPublished(ledger: Ledger, key: string): Promise<ImageDocument | undefined> {
  const document = await read(ledger, keys.image(key), imageDocumentSchema).catch(() => undefined)
  // An entry that can't be read is one: whoever reads the log says what is wrong with it.
  if (document && (await ledger.get(keys.claim(key, document.n + 1)).catch(() => null)) === undefined) return document
  const claims = await (document ? readClaims(ledger, key) : refreshClaims(ledger, new Claims(key, [])))
  const published = claims.published
  if (!published) return undefined
  const { n, digest, sizeBytes } = published
  return { version: 1, n, digest, sizeBytes, ...(claims.rebuiltBefore(n) ? { rebuilt: n } : {}) }
}
