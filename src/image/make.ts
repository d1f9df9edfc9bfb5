import { dirname } from 'node:path'
import type { ImageDefinition } from '../config.ts'
import { messageOf, refused, unavailable } from '../errors.ts'
import type { StoryEvent } from '../events.ts'
import { failpoint } from '../failpoint.ts'
import type { BuildRequest } from '../io/builder.ts'
import type { Manifest } from '../io/registry.ts'
import type { ImageJob, Pin } from '../jobs/job.ts'
import type { BuildRecord } from '../jobs/records.ts'
import type { Redactor } from '../jobs/redact.ts'
import { type Warm, warmthOf } from '../jobs/warmth.ts'
import { buildIdTime, keys, tags } from '../names.ts'
import { formatReference } from '../reference.ts'
import { localPinReference } from './dockerfile.ts'
import { collectInputs, type ImageInputs } from './inputs.ts'
import { imageKey } from './key.ts'
import { measureImage, notePushed } from './layers.ts'
import { checkPlatforms } from './platforms.ts'
import { buildRequest, tagLocalPins } from './request.ts'
import type { ImageWorld } from './world.ts'

export interface MadeImage {
  digest: string
  manifest: Manifest
  sizeBytes: number
  pushedBytes: number
  steps: { total: number; cached: number }
  warmth: Warmth
}

type Warmth = NonNullable<BuildRecord['warmth']>

interface Reporting {
  signal: AbortSignal
  tell: (event: StoryEvent) => void | Promise<void>
  redactor: Redactor
}

/** Commit → work tree → BuildKit → pushed under the permanent tag `key-<20>-<n>`. Throws the user's, the world's or our error; publishes nothing. */
export async function makeImage(
  job: ImageJob,
  turn: { n: number; slot: number },
  world: ImageWorld,
  { signal, tell, redactor }: Reporting,
): Promise<MadeImage> {
  const phase = (name: Extract<StoryEvent, { type: 'phase' }>['phase'], detail?: string) =>
    tell({ type: 'phase', phase: name, t: Date.now(), worker: world.worker, ...(detail === undefined ? {} : { detail }) })

  await phase('fetching')
  // Neither needs the commit, and the engine takes a while to answer.
  const prepared = Promise.all([world.engine.info(), tagLocalPins(job.pins, world)])
  prepared.catch(() => {})
  const source = world.source(job.repository)
  // For the caches, later: asked meanwhile.
  void source.defaultBranch()
  await source.fetch({ commit: job.commit, signal })
  const definition = await definitionOf(job, world)
  await failpoint('fetched')
  await using secrets = await world.secrets.materialise(definition.secrets)
  redactor.add(secrets.values)

  const { submodules, lfs } = definition
  const stop = new AbortController()
  const how = { submodules, lfs, signal: AbortSignal.any([signal, stop.signal]) }
  const checkout = world.checkout(job.repository, turn.slot, job.commit, how)
  // The files aren't used before it is known whether the job is what it says.
  const verified = verifyKey(job, definition, world).then(async ({ inputs, platforms }) => {
    const { registry, engine, emulated } = world
    await checkPlatforms({ platforms, analysis: inputs.analysis, pins: job.pins, registry, engine, emulated, signal })
    return inputs
  })
  verified.catch(() => stop.abort())
  // Nobody writes to the slot any more when this ends.
  await Promise.allSettled([checkout, verified])
  const [inputs, [engine], root] = await Promise.all([verified, prepared, checkout])
  await failpoint('checked-out')

  const tag = tags.key(job.key, turn.n)
  const target = world.target(job.image)
  const period = periodOf(job, definition, world)
  const ingredients = { definition, inputs, engine, root, place: turn.slot, secrets: secrets.files }
  const asked = await buildRequest(job, ingredients, world)
  const request: BuildRequest = {
    ...asked,
    push: [formatReference({ ...target, tag })],
    noCache: job.rebuild || (period !== undefined && (await world.ledger.get(period)) === undefined),
    cacheTo: asked.cacheFrom[0],
  }
  await phase('building')
  let begun = false
  const named = localNames(job.pins)
  const onEvent = async (raw: StoryEvent) => {
    const event = raw.type === 'step' ? { ...raw, name: named(raw.name) } : raw
    if (!begun && event.type === 'line') {
      begun = true
      await failpoint('building')
    }
    await tell(event)
  }
  const before = request.noCache ? undefined : await world.warmth.of(engine.id, job.image)
  const result = await world.builder(engine).build(request, { signal, onEvent })
  const warmth = warmthOf(before, result)
  await tell({ type: 'note', t: Date.now(), level: 'info', text: warmthText(warmth, world.worker, before) })
  if (period !== undefined) await world.ledger.put(period, { version: 1, build: job.build })
  await phase('publishing')
  const pushed = await inspectPushed(job, tag, result.digest, world)
  const warm = { digest: pushed.digest, by: 'built-here', at: Date.now() } as const
  await world.warmth.note(engine.id, job.image, warm).catch((error) => world.onProblem(`what is warm here: ${messageOf(error)}`))
  return { ...pushed, steps: result.steps, warmth }
}

const warmthText = (warmth: Warmth, worker: string, before: Warm | undefined): string => {
  const ago = before && `${Math.max(0, Math.round((Date.now() - before.at) / 60_000))} min ago`
  if (warmth === 'built-here') return `caches: built on ${worker} ${ago}`
  if (warmth === 'warmed') return `caches: warmed on ${worker} ${ago}`
  return warmth === 'registry' ? 'caches: those of the registry' : 'caches: cold'
}

/** The commit's own bake.yaml decides; a job whose key doesn't follow from it was made by another bake, or by nobody honest. */
export async function verifyJob(job: ImageJob, world: ImageWorld): Promise<{ definition: ImageDefinition } & VerifiedKey> {
  const definition = await definitionOf(job, world)
  return { definition, ...(await verifyKey(job, definition, world)) }
}

async function definitionOf(job: ImageJob, world: ImageWorld): Promise<ImageDefinition> {
  const { objects } = world.source(job.repository)
  const text = await objects.file(job.commit, job.config)
  if (!text)
    throw refused('config_missing', `commit ${job.commit.slice(0, 12)} has no ${job.config}`, {
      next: 'commit bake.yaml, then ask again',
    })
  const config = world.parseConfig(Buffer.from(text).toString('utf8'), job.config)
  const definition = config.images.find((image) => image.name === job.image)
  if (!definition)
    throw refused('unknown_image', `bake.yaml of commit ${job.commit.slice(0, 12)} defines no image ${job.image}`, {
      next: `it defines: ${config.images.map(({ name }) => name).join(', ')}`,
    })
  return definition
}

interface VerifiedKey {
  inputs: ImageInputs
  platforms: string[]
}

async function verifyKey(job: ImageJob, definition: ImageDefinition, world: ImageWorld): Promise<VerifiedKey> {
  const platforms = definition.platforms.length > 0 ? definition.platforms : world.defaultPlatforms
  const prefix = dirname(job.config) === '.' ? '' : `${dirname(job.config)}/`
  const inputs = await collectInputs(world.source(job.repository).objects, job.commit, prefix, definition, platforms)
  const { host, path } = world.target(job.image)
  const key = imageKey(inputs, { repository: `${host}/${path}`, pins: job.pins, nowMs: buildIdTime(job.build) })
  if (key !== job.key) {
    throw refused(
      'key_mismatch',
      `the job's image key ${job.key.slice(0, 12)} doesn't follow from its commit and pins (${key.slice(0, 12)} does)`,
      {
        next: 'the asker and this worker run different versions of bake, or different settings of registry: bring them to the same version',
        ids: { build: job.build, key: job.key },
      },
    )
  }
  return { inputs, platforms }
}

/**
 * With `max_age`, what a period's first build of an image leaves: that build runs every step anew, or the caches would keep the
 * packages of the period before.
 */
function periodOf(job: ImageJob, { maxAgeSeconds }: ImageDefinition, world: ImageWorld): string | undefined {
  if (maxAgeSeconds === undefined) return undefined
  const { host, path } = world.target(job.image)
  return keys.period(`${host}/${path}`, Math.floor(buildIdTime(job.build) / 1000 / maxAgeSeconds))
}

/** Gives a local base its own name back in what people read. */
function localNames(pins: Pin[]): (text: string) => string {
  const local = pins
    .filter((pin) => pin.local)
    .map((pin) => ({
      pin,
      written: new RegExp(`(?:docker\\.io/library/)?${localPinReference(pin)}(?:@sha256:[0-9a-f]{64})?`, 'g'),
    }))
  return (text) => local.reduce((so, { pin, written }) => so.replace(written, pin.reference), text)
}

/** Reads back what was pushed: the manifest in the registry is the truth that gets published. */
async function inspectPushed(
  job: ImageJob,
  tag: string,
  digest: string | undefined,
  world: ImageWorld,
): Promise<Omit<MadeImage, 'steps' | 'warmth'>> {
  const target = world.target(job.image)
  const manifest = await world.registry.manifest(digest === undefined ? { ...target, tag } : { ...target, digest })
  if (!manifest) {
    throw unavailable('push_lost', `the registry ${target.host} doesn't have what was just pushed as ${tag}`, {
      ids: { tag, ...(digest ? { digest } : {}) },
      next: 'look at the registry’s log',
    })
  }
  const { layers, sizeBytes } = await measureImage(target, manifest, world.registry)
  const pushedBytes = await notePushed(world.ledger, target, layers)
  return { digest: manifest.digest, manifest, sizeBytes, pushedBytes }
}
