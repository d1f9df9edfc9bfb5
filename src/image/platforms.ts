import { type BakeError, unavailable } from '../errors.ts'
import type { Engine } from '../io/engine.ts'
import type { Manifest, Reference, Registry } from '../io/registry.ts'
import type { Pin } from '../jobs/job.ts'
import { formatPlatform, normalise, type Platform, parsePlatform } from '../platform-name.ts'
import { parseReference } from '../reference.ts'
import type { DockerfileAnalysis } from './dockerfile.ts'

export interface PlatformCheck {
  /** Those that are built: what the images of named contexts must offer. */
  platforms: readonly string[]
  analysis: DockerfileAnalysis
  pins: readonly Pin[]
  registry: Registry
  engine: Engine
  /** Foreign platforms whose programs this engine can run. */
  emulated(): Promise<string[]>
  signal?: AbortSignal | undefined
}

/**
 * Throws platform_missing when a base doesn't offer a platform that is built from it (BuildKit takes what there is, in silence, and labels the result wrong),
 * emulation_missing when a stage would RUN programs that this engine can't: exit 4, both with the fix.
 */
export async function checkPlatforms(check: PlatformCheck): Promise<void> {
  await Promise.all([checkEmulation(check), ...imagesOf(check).map((image) => checkImage(image, check))])
}

interface NeededImage {
  reference: string
  /** Undefined for a named context. */
  line: number | undefined
  platforms: readonly string[]
  pin: Pin | undefined
}

function imagesOf({ analysis, pins, platforms }: PlatformCheck): NeededImage[] {
  const pinOf = (reference: string) => pins.find((pin) => pin.reference === reference)
  const seen = new Set(analysis.externals.map(({ reference }) => reference))
  return [
    ...analysis.externals
      .filter(({ use }) => use !== 'syntax')
      .map(({ reference, line, platforms: needed }) => ({ reference, line, platforms: needed, pin: pinOf(reference) })),
    ...pins
      .filter(({ reference }) => !seen.has(reference))
      .map((pin) => ({ reference: pin.reference, line: undefined, platforms, pin })),
  ]
}

async function checkImage(image: NeededImage, check: PlatformCheck): Promise<void> {
  const offered = await offeredBy(image, check)
  const missing = image.platforms.filter((platform) => !offered.some((one) => runsOn(one, parsePlatform(platform))))
  if (missing.length === 0) return
  const where = image.line === undefined ? 'a named context' : `line ${image.line}`
  const has = offered.length === 0 ? 'names no platform' : `is for ${[...new Set(offered.map(formatPlatform))].join(', ')} only`
  throw unavailable('platform_missing', `${where}: ${image.reference} ${has}, but ${missing.join(', ')} is built from it`, {
    next: `leave ${missing.join(', ')} out of platforms: in bake.yaml, or use a base that offers it`,
    ids: { reference: image.reference, platform: missing.join(',') },
  })
}

/** True when programs for `one` run where `wanted` is asked for: same architecture, an equal or older variant. */
function runsOn(one: Platform, wanted: Platform): boolean {
  if (one.os !== wanted.os || one.architecture !== wanted.architecture) return false
  return variantNumber(one) <= variantNumber(wanted)
}

const variantNumber = ({ architecture, variant }: Platform): number =>
  variant === '' ? ({ arm64: 8, arm: 7 }[architecture] ?? 1) : Number(variant.replace(/^v/, '')) || 1

async function offeredBy({ reference, pin }: NeededImage, check: PlatformCheck): Promise<Platform[]> {
  const { tag: _, ...named } = parseReference(reference)
  const digest = pin?.digest ?? named.digest
  if (digest === undefined) return []
  if (pin?.local) return (await fromEngine(digest, check.engine)) ?? []
  const known = cacheOf(check.registry)
  const cached = known.get(digest)
  if (cached) return cached
  try {
    const offered = await fromRegistry({ ...named, digest }, check)
    known.set(digest, offered)
    return offered
  } catch (error) {
    // Offline, an image that the engine has by this digest says it as well.
    const local = await fromEngine(`${named.host}/${named.path}@${digest}`, check.engine).catch(() => undefined)
    if (local) return local
    throw error
  }
}

/** A digest's platforms never change. Kept as long as the registry client, because Docker Hub counts each read of a manifest as a pull. */
const caches = new WeakMap<Registry, Map<string, Platform[]>>()
function cacheOf(registry: Registry): Map<string, Platform[]> {
  const cache = caches.get(registry) ?? new Map<string, Platform[]>()
  caches.set(registry, cache)
  return cache
}

async function fromEngine(reference: string, engine: Engine): Promise<Platform[] | undefined> {
  const image = await engine.image(reference)
  return image && [normalise({ os: image.os, architecture: image.architecture, variant: '' })]
}

async function fromRegistry(reference: Reference, { registry, signal }: PlatformCheck): Promise<Platform[]> {
  const manifest = await registry.manifest(reference, { signal })
  if (!manifest) throw gone(reference)
  const value = parseJson(manifest.bytes, reference)
  if (Array.isArray(value.manifests))
    return value.manifests.flatMap((entry) => (isRecord(entry) && isRecord(entry.platform) ? platformIn(entry.platform) : []))
  const config = isRecord(value.config) ? value.config.digest : undefined
  if (typeof config !== 'string') throw damaged(reference, manifest)
  return platformIn(parseJson(await registry.blob(reference, config, { signal }), reference))
}

/** An image config or an index entry's `platform`; attestations call theirs `unknown`. */
function platformIn({ os, architecture, variant }: Record<string, unknown>): Platform[] {
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === 'unknown') return []
  return [normalise({ os, architecture, variant: typeof variant === 'string' ? variant : '' })]
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

function parseJson(bytes: Uint8Array, reference: Reference): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    if (isRecord(value)) return value
  } catch {}
  throw damaged(reference)
}

const nameOf = ({ host, path, digest }: Reference): string => `${host}/${path}@${digest}`

const damaged = (reference: Reference, manifest?: Manifest): BakeError =>
  unavailable('registry_error', `${nameOf(reference)} is no image${manifest ? ` (${manifest.mediaType})` : ''}`, {
    next: 'use an image as the base; Helm charts and other artifacts are none',
    ids: { host: reference.host },
  })

const gone = (reference: Reference): BakeError =>
  unavailable('base_gone', `registry ${reference.host} no longer has ${nameOf(reference)}, which this commit was pinned to`, {
    next: 'push that image again, or make a new commit: it is pinned anew',
    ids: { reference: nameOf(reference) },
  })

async function checkEmulation({ analysis, engine, emulated }: PlatformCheck): Promise<void> {
  const running = analysis.stages.filter(({ runs }) => runs)
  if (running.length === 0) return
  const { os, architecture } = await engine.info()
  const own = normalise({ os, architecture, variant: '' })
  const foreign = running.flatMap(({ name, line, platforms }) =>
    platforms.map(parsePlatform).flatMap((platform) => (isNative(platform, own) ? [] : [{ name, line, platform }])),
  )
  if (foreign.length === 0) return
  const can = (await emulated()).map(parsePlatform)
  const stuck = foreign.find(
    ({ platform }) => !can.some((one) => one.os === platform.os && one.architecture === platform.architecture),
  )
  if (!stuck) return
  const platform = formatPlatform(stuck.platform)
  throw unavailable(
    'emulation_missing',
    `line ${stuck.line}: stage ${stuck.name} runs commands for ${platform}, which this ${formatPlatform(own)} engine can't run`,
    {
      next: `install an emulator: apt-get install qemu-user-static binfmt-support (or docker run --privileged --rm tonistiigi/binfmt --install ${stuck.platform.architecture}); or cross-compile: FROM --platform=$BUILDPLATFORM`,
      ids: { platform, stage: stuck.name },
    },
  )
}

/** An amd64 processor also runs 386. */
const isNative = (wanted: Platform, own: Platform): boolean =>
  wanted.os === own.os &&
  (wanted.architecture === own.architecture || (own.architecture === 'amd64' && wanted.architecture === '386'))
