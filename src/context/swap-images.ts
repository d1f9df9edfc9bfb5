import { referencesOf } from '../ami/images.ts'
import type { ImageReference } from '../ami/machine.ts'
import { resolveRelease } from '../ami/release.ts'
import { type Config, nearest, type ServiceDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import { imageSource, type lazyAsker } from './ami-images.ts'
import type { openCheckout, Project } from './project.ts'

export interface SwapRequest {
  stack: string
  /** Names of images; none: all that services run. */
  images: string[]
  sha?: string
  branch?: string
  release?: string
  atomic: boolean
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

/** Throws machine_missing or unknown_image (exit 2). */
export function servicesOf({ machine, images }: Config, request: SwapRequest): ServiceDefinition[] {
  if (machine === undefined || machine.services.length === 0)
    throw refused('machine_missing', 'bake.yaml has no machine.services: a stack runs these', {
      next: 'docs/bake-yaml.md, machine',
    })
  const names = images.map(({ name }) => name)
  for (const image of request.images) {
    if (machine.services.some((service) => service.image === image)) continue
    const near = nearest(image, names)
    throw refused('unknown_image', `no service runs an image ${image}${near === undefined ? '' : ` (did you mean ${near}?)`}`, {
      next: `services run ${[...new Set(machine.services.map((service) => service.image))].join(', ')}`,
    })
  }
  return machine.services.filter(({ image }) => request.images.length === 0 || request.images.includes(image))
}

interface Sources {
  project: Project
  checkout: Awaited<ReturnType<typeof openCheckout>>['checkout']
  asker: ReturnType<typeof lazyAsker>
}

/** The images of the services as asked for: of a release that is recorded, else built. Throws what building throws. */
export async function imagesOf(
  services: ServiceDefinition[],
  { project, checkout, asker }: Sources,
  request: SwapRequest,
): Promise<{ commit: string; references: ImageReference[] }> {
  const { sha, branch, release, signal } = request
  const names = [...new Set(services.map(({ image }) => image))]
  if (release !== undefined) {
    const { commit, recorded } = await resolveRelease({ release }, checkout, project.ledger)
    if (recorded && names.every((name) => recorded.images.some(({ image }) => image === name))) {
      // What isn't in the engine is pulled from this project's own registry.
      await asker.open()
      return { commit, references: recorded.images }
    }
    return { commit, references: await built(commit, names, asker, request) }
  }
  const { commit } = await checkout.resolve({ ...(sha !== undefined && { sha }), ...(branch !== undefined && { branch }) })
  signal.throwIfAborted()
  return { commit, references: await built(commit, names, asker, request) }
}

const built = async (commit: string, names: string[], asker: Sources['asker'], request: SwapRequest) =>
  referencesOf(await imageSource(asker, request).ensure(commit, names, async () => {}))
