import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { BakeError } from '../errors.ts'
import type { BakePrint, BakePrintRequest } from '../io/bake-print.ts'
import { readCompose } from './compose.ts'
import type { Found, FoundImage, LeftOut } from './found.ts'
import { unique } from './found.ts'
import { imageOf } from './targets.ts'

export type PrintBake = (request: BakePrintRequest) => Promise<BakePrint>

/** In the order in which `docker buildx bake` itself looks for them, its own kind before compose's. */
export const BAKE_FILES = ['docker-bake.hcl', 'docker-bake.json']
export const COMPOSE_FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml']

export const isCompose = (file: string): boolean => /\.ya?ml$/.test(file)

/** Images of a docker-bake file (with its `.override`, when there is one): the default group, or every target when there is none. */
export async function fromBakeFile(file: string, dir: string, print: PrintBake): Promise<Found> {
  const from = dirname(file)
  const text = await readFile(file, 'utf8')
  const override = basename(file).replace(/\.(hcl|json)$/, '.override.$1')
  const hasOverride = await readFile(join(from, override)).then(
    () => true,
    () => false,
  )
  const request = { dir: from, source: [basename(file), ...(hasOverride ? [override] : [])] }
  const printed = await print(request).catch((error: unknown) => {
    if (!(error instanceof BakeError) || !error.message.includes('failed to find target default')) throw error
    return print({ ...request, targets: targetNames(text) })
  })
  return foundIn(
    basename(file),
    inOrder(printed, (name) => text.indexOf(`"${name}"`)),
    from,
    dir,
  )
}

/** Images of a compose file: its services with `build`. */
export async function fromCompose(file: string, dir: string, print: PrintBake): Promise<Found> {
  const from = dirname(file)
  const compose = readCompose(await readFile(file, 'utf8'), file)
  const withoutBuild = compose.withoutBuild.map((name) => ({ name, reason: 'it has no build' }))
  if (compose.extras.size === 0) return { source: basename(file), images: [], leftOut: withoutBuild, notes: [] }
  const printed = await print({ dir: from, source: { text: compose.text } })
  // buildx writes service names with _ for what a target can't be called.
  const services = new Map([...compose.extras].map(([name, extras]) => [name.replace(/[^A-Za-z0-9_-]/g, '_'), extras]))
  for (const [name, target] of Object.entries(printed.target)) Object.assign(target, { ...services.get(name), ...target })
  const order = [...services.keys()]
  const found = foundIn(
    basename(file),
    inOrder(printed, (name) => order.indexOf(name)),
    from,
    dir,
  )
  return { ...found, leftOut: [...found.leftOut, ...withoutBuild] }
}

/** Targets as the file has them: `--print` sorts them by name. */
const inOrder = ({ target }: BakePrint, place: (name: string) => number): BakePrint => ({
  target: Object.fromEntries(Object.entries(target).sort(([a], [b]) => place(a) - place(b))),
})

function foundIn(source: string, printed: BakePrint, from: string, dir: string): Found {
  const images: FoundImage[] = []
  const leftOut: LeftOut[] = []
  const notes: string[] = []
  for (const [name, target] of Object.entries(printed.target)) {
    const result = imageOf(name, target, from, dir)
    if ('leftOut' in result) {
      leftOut.push(result.leftOut)
      continue
    }
    const twin = images.find((image) => sameBuild(image, result.image))
    if (twin !== undefined) leftOut.push({ name, reason: `it is built exactly like ${twin.name}` })
    else images.push(result.image)
    if (result.ignored.length > 0) notes.push(`${name}: bake has no ${result.ignored.join(', ')}`)
  }
  return { source, images: unique(images), leftOut, notes }
}

const sameBuild = (a: FoundImage, b: FoundImage): boolean =>
  JSON.stringify({ ...a, name: '' }) === JSON.stringify({ ...b, name: '' })

/** Names of the targets that are written in a file; those that start with _ are for others to inherit. */
function targetNames(text: string): string[] {
  const names = text.trimStart().startsWith('{')
    ? Object.keys((JSON.parse(text) as { target?: object }).target ?? {})
    : [...text.matchAll(/^\s*target\s+"([^"]+)"/gm)].map(([, name]) => name!)
  return names.filter((name) => !name.startsWith('_'))
}
