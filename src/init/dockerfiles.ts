import { readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Found, FoundImage } from './found.ts'
import { nameFrom, unique } from './found.ts'

/** Deeper ones are examples and dependencies, seldom what is delivered. */
const MAX_DEPTH = 4
const SKIPPED = new Set(['node_modules', 'vendor', 'third_party', 'testdata', 'dist', 'build', 'target', 'venv', '__pycache__'])
const DOCKERFILE = /^(?:Dockerfile|Containerfile)(?:\.([A-Za-z0-9_.-]+))?$|^([A-Za-z0-9_.-]+)\.(?:Dockerfile|dockerfile)$/

/** Paths of the Dockerfiles in `dir` and below, from `dir`; those of hidden directories and of dependencies left out. */
export async function listDockerfiles(dir: string, depth = 0): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile() && DOCKERFILE.test(entry.name) && !entry.name.endsWith('.dockerignore'))
  const dirs = entries.filter(
    (entry) => entry.isDirectory() && !entry.name.startsWith('.') && !SKIPPED.has(entry.name) && depth < MAX_DEPTH,
  )
  const below = await Promise.all(
    dirs.map(async ({ name }) => (await listDockerfiles(join(dir, name), depth + 1)).map((path) => `${name}/${path}`)),
  )
  return [...files.map(({ name }) => name), ...below.flat()].sort(
    (a, b) => a.split('/').length - b.split('/').length || (a < b ? -1 : 1),
  )
}

/** One image per Dockerfile, its directory the context: named after `Dockerfile.NAME`, else the directory, at the top the project. */
export async function fromDockerfiles(dir: string, project: string): Promise<Found> {
  const images = (await listDockerfiles(dir)).map((path): FoundImage => {
    const file = basename(path)
    const [, suffix, prefix] = DOCKERFILE.exec(file)!
    const context = dirname(path)
    const name = suffix ?? prefix ?? (context === '.' ? project : basename(context))
    return { name: nameFrom(name), context, ...(file === 'Dockerfile' ? {} : { dockerfile: file }) }
  })
  return { source: 'Dockerfiles', images: unique(images), leftOut: [], notes: [] }
}
