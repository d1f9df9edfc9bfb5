import { access } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { BakeError, refused } from '../errors.ts'
import { BAKE_FILES, COMPOSE_FILES, fromBakeFile, fromCompose, isCompose, type PrintBake } from './bake-files.ts'
import { fromDockerfiles, listDockerfiles } from './dockerfiles.ts'
import type { Found } from './found.ts'
import { usable } from './usable.ts'

/**
 * The images of `dir`: of the file `from`, else of the docker-bake or compose file that is there, else one per Dockerfile. What could not become an
 * image of a valid bake.yaml is left out with its reason. Throws `source_missing` (exit 2); what buildx can't read is an error for `from` only.
 */
export async function discover(dir: string, project: string, from: string | undefined, print: PrintBake): Promise<Found> {
  if (from !== undefined) return usable(dir, await read(resolve(dir, from), dir, project, print))
  const notes: string[] = []
  for (const name of [...BAKE_FILES, ...COMPOSE_FILES]) {
    const file = join(dir, name)
    if (!(await exists(file))) continue
    try {
      const found = await usable(dir, await read(file, dir, project, print))
      if (found.images.length > 0) return { ...found, notes: [...notes, ...found.notes, ...(await forgotten(dir, found))] }
      notes.push(`${name} builds no image, so bake looked for Dockerfiles instead${reasons(found)}`)
    } catch (error) {
      if (!(error instanceof BakeError)) throw error
      notes.push(
        `${name} can't be read, so bake looked for Dockerfiles instead: ${error.message}${error.next ? ` (${error.next})` : ''}`,
      )
    }
  }
  const found = await usable(dir, await fromDockerfiles(dir, project))
  return { ...found, notes: [...notes, ...found.notes] }
}

async function read(file: string, dir: string, project: string, print: PrintBake): Promise<Found> {
  if (!(await exists(file)))
    throw refused('source_missing', `there is no ${file}`, { next: 'bake init --from FILE takes a compose or docker-bake file' })
  if (isCompose(file)) return fromCompose(file, dir, print)
  if (/\.(?:hcl|json)$/.test(file)) return fromBakeFile(file, dir, print)
  if (/dockerfile|containerfile/i.test(basename(file))) {
    const all = await fromDockerfiles(dir, project)
    return {
      ...all,
      images: all.images.filter((image) => resolve(dir, image.context, image.dockerfile ?? 'Dockerfile') === file),
    }
  }
  throw refused('source_unknown', `bake can't tell what ${file} is`, {
    next: 'give a compose file (.yaml), a docker-bake file (.hcl, .json) or a Dockerfile',
  })
}

/** Dockerfiles that the file which was read doesn't use. */
async function forgotten(dir: string, found: Found): Promise<string[]> {
  const used = new Set(found.images.map((image) => resolve(dir, image.context, image.dockerfile ?? 'Dockerfile')))
  const others = (await listDockerfiles(dir)).filter((path) => !used.has(resolve(dir, path)))
  return others.length === 0
    ? []
    : [`not used by ${found.source}: ${others.slice(0, 5).join(', ')}${others.length > 5 ? ', …' : ''}`]
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

const reasons = ({ leftOut }: Found): string =>
  leftOut.length === 0 ? '' : ` (${leftOut.map(({ name, reason }) => `${name}: ${reason}`).join('; ')})`
