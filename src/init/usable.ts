import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ConfigError, parseConfig } from '../config.ts'
import type { Found, FoundImage } from './found.ts'
import { settingsOf } from './render.ts'

/** Moves the images that a bake.yaml can't have, or whose files are missing, to `leftOut`. */
export async function usable(dir: string, found: Found): Promise<Found> {
  const reasons = await Promise.all(found.images.map((image) => faultOf(dir, image)))
  return {
    ...found,
    images: found.images.filter((_, index) => reasons[index] === undefined),
    leftOut: [
      ...found.images.flatMap(({ name }, index) => (reasons[index] === undefined ? [] : [{ name, reason: reasons[index]! }])),
      ...found.leftOut,
    ],
  }
}

async function faultOf(dir: string, image: FoundImage): Promise<string | undefined> {
  try {
    parseConfig(JSON.stringify({ project: 'p', images: { [image.name]: settingsOf(image) } }), 'bake.yaml')
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ path, message }) => `${path.replace(`images.${image.name}.`, '')} ${message}`).join('; ')
  }
  const dockerfile = resolve(dir, image.context, image.dockerfile ?? 'Dockerfile')
  const isFile = await stat(dockerfile).then(
    (found) => found.isFile(),
    () => false,
  )
  return isFile ? undefined : `there is no ${image.context === '.' ? '' : `${image.context}/`}${image.dockerfile ?? 'Dockerfile'}`
}
