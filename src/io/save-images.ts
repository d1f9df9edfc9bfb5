import { tool } from './tool.ts'

export interface SavedImage {
  /** `<repository>@<digest>` */
  reference: string
  /** `name:tag` that it carries in the file. */
  name: string
}

/** Another proof of the same image may have taken the name away in between. */
const ATTEMPTS = 3

/**
 * Writes images to the tar file `path`, as `docker load` takes them, pulling those that the engine lacks, which are gone from it afterwards. A saved image
 * keeps its names and loses its digest, hence `name`. Throws tool_missing (exit 4), tool_failed (exit 3).
 */
export async function saveImages(path: string, images: SavedImage[], architecture: string, signal?: AbortSignal): Promise<void> {
  await using undo = new AsyncDisposableStack()
  const docker = (...args: string[]) => tool('docker', args, { signal })
  const forget = (reference: string) =>
    undo.defer(async () => void (await tool('docker', ['image', 'rm', '--', reference]).catch(() => {})))
  for (const { reference } of images) {
    const here = await docker('image', 'inspect', '--format', '{{.Id}}', '--', reference).catch(() => undefined)
    if (here !== undefined) continue
    await docker('pull', '--quiet', '--platform', `linux/${architecture}`, '--', reference)
    forget(reference)
  }
  for (const { name } of images) forget(name)
  for (let attempt = 1; ; attempt++) {
    for (const { reference, name } of images) await docker('image', 'tag', '--', reference, name)
    try {
      await docker('image', 'save', '--output', path, '--', ...images.map(({ name }) => name))
      return
    } catch (error) {
      if (attempt === ATTEMPTS) throw error
    }
  }
}
