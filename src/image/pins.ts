import { BakeError, refused } from '../errors.ts'
import type { Engine, EngineImage } from '../io/engine.ts'
import type { Descriptor, Reference, Registry } from '../io/registry.ts'
import type { Pin } from '../jobs/job.ts'
import { formatReference, parseReference } from '../reference.ts'
import type { ExternalImage } from './dockerfile.ts'

/** A reference to pin, and where it stands, for messages. */
export interface PinRequest {
  reference: string
  use: ExternalImage['use'] | 'context'
  /** Of the Dockerfile, 1-based. */
  line?: number
}

export interface PinOptions {
  registry: Registry
  /** On one machine: bases that only this engine has count too. On a fleet the registry alone is the truth. */
  engine?: Pick<Engine, 'image'> | undefined
  signal?: AbortSignal | undefined
  /** Told, in a sentence, of every reference that the registry didn't decide. */
  onNote?: (text: string) => void
}

/** How long a registry is waited for when this machine has the image anyway: long enough for a distant one that is well. */
const PATIENCE_WITH_LOCAL_MS = 2_000

/** BuildKit ships with this frontend; the labs channel has features that the built-in one lacks. */
const BUILT_IN_FRONTEND = /^(?:docker\.io\/)?docker\/dockerfile(?::(?:latest|1|1\.\d+(?:\.\d+)?))?$/

/**
 * `localhost/name` with no port is podman's name for what was built here and belongs to no registry. bake takes it so too: nobody can publish
 * another image under such a name, as they could under one that means Docker Hub.
 */
const ENGINE_ONLY_HOST = 'localhost'

type Head = { found?: Descriptor | undefined; error?: unknown }

/**
 * The digest that each moving reference stands for now; references with a digest need none. One HEAD for each image, all at once.
 *
 * The registry decides, so that one machine and a fleet build the same. On one machine the engine's image is used (`local`) when the registry doesn't
 * have it, denies it or can't be reached, and without asking when the engine knows of no registry's digest for it: it was built here. (An engine with
 * the containerd store gives every image a digest, so there the registry is asked first, but not waited for.)
 *
 * A `# syntax=docker/dockerfile:1` whose registry can't be reached gets no pin on one machine: the engine's built-in frontend, which is the same program,
 * stands in, or no Dockerfile with that line could be built offline. Throws base_not_found and bad_reference (exit 2) and what the registry throws.
 */
export async function resolvePins(requests: readonly (string | PinRequest)[], options: PinOptions): Promise<Pin[]> {
  const unique = new Map<string, PinRequest>()
  for (const request of requests) {
    const one: PinRequest = typeof request === 'string' ? { reference: request, use: 'from' } : request
    if (!unique.has(one.reference)) unique.set(one.reference, one)
  }
  const heads = new Map<string, Promise<Head>>()
  const pins = await Promise.all([...unique.values()].map((request) => resolvePin(request, options, heads)))
  return pins.filter((pin) => pin !== undefined)
}

async function resolvePin(request: PinRequest, options: PinOptions, heads: Map<string, Promise<Head>>): Promise<Pin | undefined> {
  const { reference } = request
  const parsed = parse(request)
  if (parsed.digest !== undefined) return undefined
  const full = formatReference(parsed)
  const { image, error: engineError } = await localImage(reference, options)
  if (image && parsed.host === ENGINE_ONLY_HOST) return { reference, digest: image.id, local: true }
  if (image?.repoDigests.length === 0) return localPin(request, image, 'it was made here', options)
  const asked = heads.get(full) ?? ask(parsed, image !== undefined, options)
  heads.set(full, asked)
  const head = await asked
  options.signal?.throwIfAborted()
  if (head.found) {
    if (image && image.id !== head.found.digest && image.repoDigests.some((known) => known.endsWith(image.id)))
      options.onNote?.(
        `${reference} is ${short(head.found.digest)} in ${parsed.host}; this machine's ${short(image.id)} is not used`,
      )
    return { reference, digest: head.found.digest }
  }
  if (image) return localPin(request, image, head.error ? messageOfKnown(head.error) : `${parsed.host} doesn't have it`, options)
  // The engine may have it, and nobody can tell: its absence is what the person must know, not the reference's.
  if (engineError !== undefined && request.use !== 'syntax') throw engineError
  if (head.error === undefined || (options.engine && parsed.host === ENGINE_ONLY_HOST)) throw notFound(request, parsed, options)
  if (request.use === 'syntax' && options.engine && isUnreachable(head.error) && BUILT_IN_FRONTEND.test(reference)) {
    options.onNote?.(`${messageOfKnown(head.error)}: the engine's built-in frontend stands in for ${reference}`)
    return undefined
  }
  throw withPlace(request, head.error)
}

async function ask(reference: Reference, haveLocal: boolean, { registry, signal }: PinOptions): Promise<Head> {
  const limits = haveLocal ? { timeoutMs: PATIENCE_WITH_LOCAL_MS, retries: 0 } : {}
  try {
    return { found: await registry.head(reference, { signal, ...limits }) }
  } catch (error) {
    return { error }
  }
}

/** An engine that doesn't answer has no image to offer; that matters only if the registry has none either. */
async function localImage(
  reference: string,
  { engine }: PinOptions,
): Promise<{ image?: EngineImage | undefined; error?: unknown }> {
  try {
    return { image: await engine?.image(reference) }
  } catch (error) {
    return { error }
  }
}

function localPin({ reference }: PinRequest, image: EngineImage, why: string, { onNote }: PinOptions): Pin {
  onNote?.(`${reference} is taken from this machine's engine: ${why}`)
  return { reference, digest: image.id, local: true }
}

function parse(request: PinRequest): Reference {
  try {
    return parseReference(request.reference)
  } catch (error) {
    throw withPlace(request, error)
  }
}

const WORDS = { from: 'FROM', copy: 'COPY --from', mount: 'RUN --mount', syntax: '# syntax', context: 'a named context' }

/** `line 3 (FROM)` */
const placeOf = ({ line, use }: PinRequest): string => (line === undefined ? WORDS[use] : `line ${line} (${WORDS[use]})`)

function notFound(request: PinRequest, { host }: Reference, { engine }: PinOptions): BakeError {
  const { reference } = request
  return refused(
    'base_not_found',
    `${placeOf(request)}: ${host} has no image ${reference}${engine ? ", and neither has this machine's engine" : ''}`,
    {
      next: `check its name and tag${engine ? `, or make it here: docker build -t ${reference} …` : ', or push it there'}`,
      ids: { reference, ...(request.line === undefined ? {} : { line: String(request.line) }) },
    },
  )
}

function withPlace(request: PinRequest, error: unknown): unknown {
  if (!(error instanceof BakeError)) return error
  const { kind, exit, code, next, ids } = error
  return new BakeError(kind, exit, code, `${placeOf(request)} needs ${request.reference}: ${error.message}`, {
    ...(next === undefined ? {} : { next }),
    ids: { ...ids, reference: request.reference },
    cause: error,
  })
}

const isUnreachable = (error: unknown): boolean => error instanceof BakeError && error.code === 'registry_unreachable'
const messageOfKnown = (error: unknown): string => (error instanceof Error ? error.message : String(error))
const short = (digest: string): string => digest.slice(0, 'sha256:'.length + 12)
