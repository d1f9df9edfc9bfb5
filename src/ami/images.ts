import type { ImageDefinition, MachineDefinition } from '../config.ts'
import { BakeError, type ExitCode, refused, unavailable } from '../errors.ts'
import type { Reference, Registry } from '../io/registry.ts'
import { parseReference } from '../reference.ts'
import type { Architecture, Baker, ImageReference } from './machine.ts'
import type { ReleaseDocument } from './records.ts'
import type { MachineSource } from './source.ts'

/** One image of a commit, as whoever builds images tells of it. */
export interface EnsuredImage {
  image: string
  build?: string
  /** `<repository>@sha256:<hex>`; absent when it isn't built, or its build failed. */
  reference?: string
  error?: { code: string; message: string; next?: string; exit: number }
}

/** The way to a commit's images; the pipeline that builds them is wired in context. In bake.yaml's order. */
export interface ImageSource {
  /** What is built. Builds nothing. */
  published(commit: string, names: string[]): Promise<EnsuredImage[]>
  /**
   * Enqueues what is missing, in parallel, and follows it to its end; `before` is asked first if something is to be built. Throws interrupted when the
   * person stopped it: builds go on then.
   */
  ensure(commit: string, names: string[], before: () => Promise<void>): Promise<EnsuredImage[]>
}

export type Pinned = Pick<ReleaseDocument, 'images' | 'standIns'>

/** Names of `images` that services or their stand-ins use, and references of other stand-ins. */
export function namesOf({ definition, images }: Pick<MachineSource, 'definition' | 'images'>): {
  own: string[]
  foreign: string[]
} {
  const standIns = definition.services.flatMap(({ proof }) => proof.with.map(({ image }) => image))
  const isOwn = (name: string) => images.some((image) => image.name === name)
  const own = new Set([...definition.services.map(({ image }) => image), ...standIns.filter(isOwn)])
  return {
    own: images.map(({ name }) => name).filter((name) => own.has(name)),
    foreign: [...new Set(standIns.filter((name) => !isOwn(name)))],
  }
}

export interface PinWorld {
  images: ImageSource
  registry(): Promise<Pick<Registry, 'head'>>
  /** Stand-ins that are no images of bake.yaml's, as whoever asked found them. */
  standIns?: readonly ImageReference[]
  baker(definition: MachineDefinition): Promise<Pick<Baker, 'available'>>
  signal: AbortSignal
}

/**
 * Every image of a release by digest: as it was recorded, else built where it is missing. Throws what a failed build gave as its reason, stand_in_missing
 * (exit 2) or what the registry throws.
 */
export async function pinImages(source: MachineSource, recorded: ReleaseDocument | undefined, world: PinWorld): Promise<Pinned> {
  const { own, foreign } = namesOf(source)
  if (recorded && own.every((name) => has(recorded.images, name)) && foreign.every((name) => has(recorded.standIns, name)))
    return { images: recorded.images, standIns: recorded.standIns }
  const [ensured, standIns] = await Promise.all([
    own.length === 0 ? [] : world.images.ensure(source.release.commit, own, () => bakerIsThere(source, world)),
    Promise.all(foreign.map(async (name) => given(name, world.standIns) ?? pinStandIn(name, await world.registry()))),
  ])
  return { images: referencesOf(ensured), standIns }
}

/** Nobody waits for a build to be told then that Packer is missing. */
async function bakerIsThere({ definition }: MachineSource, world: PinWorld): Promise<void> {
  await (await world.baker(definition)).available?.(world.signal)
}

const has = (images: ImageReference[], name: string) => images.some(({ image }) => image === name)

/** Throws the reason of the first image that has none. */
export function referencesOf(ensured: EnsuredImage[]): ImageReference[] {
  const bad = ensured.filter(({ reference }) => reference === undefined)
  if (bad.length === 0)
    return ensured.map(({ image, reference = '' }) => {
      const at = reference.indexOf('@')
      return { image, repository: reference.slice(0, at), digest: reference.slice(at + 1) }
    })
  const [first] = bad
  const { code = 'image_failed', message = 'it was not built', next, exit = 3 } = first!.error ?? {}
  const others =
    bad.length === 1
      ? ''
      : ` (and ${bad
          .slice(1)
          .map(({ image }) => image)
          .join(', ')})`
  throw new BakeError(exit === 4 ? 'world' : 'user', exit as ExitCode, code, `image ${first!.image}${others}: ${message}`, {
    next: next ?? `bake logs ${first!.build}`,
    ids: Object.fromEntries(bad.flatMap(({ image, build }) => (build === undefined ? [] : [[image, build]]))),
  })
}

/** Another repository than bake.yaml names isn't taken from anybody. */
function given(text: string, standIns: readonly ImageReference[] = []): ImageReference | undefined {
  const { host, path } = parseReference(text)
  return standIns.find(({ image, repository }) => image === text && repository === `${host}/${path}`)
}

async function pinStandIn(text: string, registry: Pick<Registry, 'head'>): Promise<ImageReference> {
  const reference = parseReference(text)
  const repository = `${reference.host}/${reference.path}`
  if (reference.digest) return { image: text, repository, digest: reference.digest }
  const found = await registry.head(reference)
  if (found) return { image: text, repository, digest: found.digest }
  throw refused('stand_in_missing', `proof.with names ${text}, which registry ${reference.host} doesn't have`, {
    next: 'name one of images, or an image that is there',
    ids: { reference: text },
  })
}

/** Before anything is built: what bake.yaml says of an image's platforms. `fallback`: of images that name none. */
export function checkDeclared(
  definition: MachineDefinition,
  images: ImageDefinition[],
  architecture: Architecture,
  fallback: string,
): void {
  for (const { name, image } of definition.services) {
    const { platforms = [] } = images.find((one) => one.name === image) ?? {}
    const declared = platforms.length > 0 ? platforms : [fallback]
    if (!declared.some((platform) => isFor(platform, architecture))) throw wrongPlatform(name, image, declared, architecture)
  }
}

const SPELLINGS: Record<string, string> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64' }

function isFor(platform: string, architecture: Architecture): boolean {
  const [os, arch = ''] = platform.toLowerCase().split('/')
  return os === 'linux' && (SPELLINGS[arch] ?? arch) === architecture
}

/** A service whose image no machine of that architecture can run. `has`: platforms that there are. */
export const wrongPlatform = (service: string, image: string, has: string[], architecture: Architecture): BakeError =>
  refused(
    'image_platform',
    `service ${service}: image ${image} is for ${has.join(', ')}, and the base is linux/${architecture}`,
    {
      next: `add linux/${architecture} to images.${image}.platforms, or use a base of the image's architecture`,
      ids: { service, image },
    },
  )

/** Why an image that a release names can't be had any more. */
export const imageGone = ({ image, repository, digest }: ImageReference): BakeError =>
  unavailable('image_gone', `the registry no longer has image ${image}: ${repository}@${digest}`, {
    next: 'push that image again; or bake another release, whose images are built anew (bake image --rebuild)',
    ids: { image, digest },
  })

/** `host/path` of an image reference as a registry client takes it. */
export const registryReference = ({ repository, digest }: ImageReference): Reference => {
  const slash = repository.indexOf('/')
  return { host: repository.slice(0, slash), path: repository.slice(slash + 1), digest }
}
