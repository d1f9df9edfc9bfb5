import { z } from 'zod'
import type { Registry } from '../io/registry.ts'
import { DIGEST_PATTERN } from '../names.ts'
import { imageGone, registryReference, wrongPlatform } from './images.ts'
import type { Architecture, ImageReference, UnrenderedPlan } from './machine.ts'

const descriptor = z.object({ digest: z.string().regex(DIGEST_PATTERN), size: z.number() })
const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() })
const imageSchema = z.object({ config: descriptor, layers: z.array(descriptor) })
const indexSchema = z.object({ manifests: z.array(descriptor.extend({ platform: platformSchema.optional() })) })

type Source = Pick<Registry, 'manifest' | 'blob'>
type Platform = z.infer<typeof platformSchema>

/**
 * The images of a plan's services as the registry has them, each with the compressed size of what the machine pulls. Throws image_gone (exit 4), or
 * image_platform (exit 2) for an image that a machine of this architecture can't run.
 */
export async function measurePlan({ services, architecture }: UnrenderedPlan, registry: Source): Promise<ImageReference[]> {
  const distinct = new Map(services.map(({ name, reference }) => [reference.digest, { name, reference }]))
  return Promise.all(
    [...distinct.values()].map(async ({ name, reference }) => {
      const found = await findImage(reference, architecture, registry)
      if ('has' in found) throw wrongPlatform(name, reference.image, found.has, architecture)
      return { ...reference, sizeBytes: found.layers.reduce((sum, { size }) => sum + size, found.config.size) }
    }),
  )
}

async function findImage(image: ImageReference, architecture: Architecture, registry: Source) {
  const at = registryReference(image)
  const manifestOf = async (digest: string) => {
    const manifest = await registry.manifest({ ...at, digest })
    if (!manifest) throw imageGone(image)
    return JSON.parse(Buffer.from(manifest.bytes).toString('utf8')) as unknown
  }
  const top = await manifestOf(image.digest)
  const index = indexSchema.safeParse(top)
  if (index.success) {
    const wanted = index.data.manifests.find(({ platform }) => platform && runsOn(platform, architecture))
    if (wanted) return imageSchema.parse(await manifestOf(wanted.digest))
    // Attestations call theirs `unknown`.
    const others = index.data.manifests.flatMap(({ platform }) => (platform && platform.os !== 'unknown' ? [platform] : []))
    return { has: others.map(format) }
  }
  const single = imageSchema.parse(top)
  const config = await registry.blob(at, single.config.digest)
  const platform = platformSchema.parse(JSON.parse(Buffer.from(config).toString('utf8')))
  return runsOn(platform, architecture) ? single : { has: [format(platform)] }
}

const runsOn = ({ os, architecture: its }: Platform, architecture: Architecture) => os === 'linux' && its === architecture

const format = ({ os, architecture, variant }: Platform) => `${os}/${architecture}${variant ? `/${variant}` : ''}`
