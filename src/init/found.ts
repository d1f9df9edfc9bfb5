import { relative, resolve, sep } from 'node:path'
import { NAME_PATTERN } from '../names.ts'

/** An image that some file describes, paths from the directory of the bake.yaml to be. What is as by default is absent. */
export interface FoundImage {
  name: string
  context: string
  dockerfile?: string
  target?: string
  platforms?: string[]
  args?: Record<string, string>
  secrets?: string[]
  ssh?: string[]
  contexts?: Record<string, string>
  network?: string
}

/** Something that was there and isn't taken, with the reason. */
export interface LeftOut {
  name: string
  reason: string
}

export interface Found {
  /** Where the images come from: a file's name, or `Dockerfiles`. */
  source: string
  images: FoundImage[]
  leftOut: LeftOut[]
  /** What the user should know. */
  notes: string[]
}

/** `path`, which starts at `from`, as one that starts at `dir`. */
export const pathFrom = (dir: string, from: string, path: string): string =>
  relative(dir, resolve(from, path)).split(sep).join('/') || '.'

/** The nearest valid name: `My.Web_` → `my.web`. */
export function nameFrom(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/\.{2,}|_{3,}/g, '-')
    .replace(/[._-]*([._-])[._-]*/g, (run, last) => (/^(?:__|-+|[._])$/.test(run) ? run : last))
    .replace(/^[._-]+|[._-]+$/g, '')
    .slice(0, 100)
  return NAME_PATTERN.test(name) ? name : 'app'
}

/** Names that are taken get a number. */
export function unique<T extends { name: string }>(items: T[]): T[] {
  const taken = new Set<string>()
  return items.map((item) => {
    let name = item.name
    for (let n = 2; taken.has(name); n++) name = `${item.name}-${n}`
    taken.add(name)
    return { ...item, name }
  })
}
