import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import type { Manifest, Reference, Registry } from '../io/registry.ts'
import { DIGEST_PATTERN, keys } from '../names.ts'

const descriptor = z.object({ digest: z.string().regex(DIGEST_PATTERN), size: z.number() })
const imageManifestSchema = z.object({ config: descriptor, layers: z.array(descriptor) })
const indexSchema = z.object({ manifests: z.array(descriptor) })
const knownLayersSchema = z.object({ version: z.literal(1), layers: z.record(z.string(), z.number()) })

/** Layers by digest → compressed bytes, and the image's size: config and layers of all its platforms, shared ones once. */
export async function measureImage(
  target: Reference,
  manifest: Manifest,
  registry: Registry,
): Promise<{ layers: Record<string, number>; sizeBytes: number }> {
  const layers: Record<string, number> = {}
  let configs = 0
  const visit = async (one: Manifest): Promise<void> => {
    const value: unknown = JSON.parse(Buffer.from(one.bytes).toString('utf8'))
    const image = imageManifestSchema.safeParse(value)
    if (image.success) {
      configs += image.data.config.size
      for (const layer of image.data.layers) layers[layer.digest] = layer.size
      return
    }
    const index = indexSchema.safeParse(value)
    for (const child of index.success ? index.data.manifests : []) {
      const found = await registry.manifest({ ...target, digest: child.digest })
      if (found) await visit(found)
    }
  }
  await visit(manifest)
  return { layers, sizeBytes: configs + Object.values(layers).reduce((sum, size) => sum + size, 0) }
}

/**
 * Bytes of the layers that no earlier push of bake's brought into this repository, which it then remembers. BuildKit doesn't tell
 * which layers it sent; when two builds end at once, one may count a layer that the other brought too.
 */
export async function notePushed(ledger: Ledger, target: Reference, layers: Record<string, number>): Promise<number> {
  const at = keys.layers(`${target.host}/${target.path}`)
  const parsed = knownLayersSchema.safeParse(await ledger.get(at).catch(() => undefined))
  const known = parsed.success ? parsed.data.layers : {}
  const fresh = Object.entries(layers).filter(([digest]) => !(digest in known))
  if (fresh.length > 0) await ledger.put(at, { version: 1, layers: { ...known, ...Object.fromEntries(fresh) } })
  return fresh.reduce((sum, [, size]) => sum + size, 0)
}
