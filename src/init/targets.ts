import type { FoundImage, LeftOut } from './found.ts'
import { nameFrom, pathFrom } from './found.ts'

type Target = Record<string, unknown>

/** What bake decides by itself, so that nothing is lost with it. */
const SILENT = new Set([
  'tags',
  'output',
  'cache-from',
  'cache-to',
  'no-cache',
  'pull',
  'attest',
  'inherits',
  'call',
  'description',
])
const TAKEN = new Set(['context', 'dockerfile', 'target', 'platforms', 'args', 'secret', 'ssh', 'contexts', 'network'])

/** One target of `docker buildx bake --print` → an image, or the reason why it can't be one. `from` is the directory of its file, `dir` that of bake.yaml. */
export function imageOf(
  name: string,
  target: Target,
  from: string,
  dir: string,
): { image: FoundImage; ignored: string[] } | { leftOut: LeftOut } {
  const context = String(target.context ?? '.').replace(/^cwd:\/\//, '')
  if (target['dockerfile-inline'] !== undefined)
    return { leftOut: { name, reason: 'its Dockerfile is inline: write it to a file' } }
  if (/^[a-z][a-z0-9+.-]*:\/\/|^git@|\.git(?:#|$)/i.test(context))
    return { leftOut: { name, reason: `its context ${context} is not in this repository` } }
  const dockerfile = String(target.dockerfile ?? 'Dockerfile').replace(/^cwd:\/\//, '')
  const contexts = Object.entries(textTable(target.contexts))
  const linked = contexts.find(([, source]) => /^(?!docker-image:)[a-z-]+:/.test(source))
  if (linked !== undefined)
    return {
      leftOut: {
        name,
        reason: `its named context ${linked[0]} is ${linked[1]}: bake builds each image from files and images only`,
      },
    }
  const image: FoundImage = { name: nameFrom(name), context: pathFrom(dir, from, context) }
  if (dockerfile !== 'Dockerfile') image.dockerfile = dockerfile.replace(/^\.\//, '')
  if (typeof target.target === 'string' && target.target !== '') image.target = target.target
  const platforms = texts(target.platforms)
  if (platforms.length > 0) image.platforms = platforms
  const args = textTable(target.args)
  if (Object.keys(args).length > 0) image.args = args
  const secrets = items(target.secret).map((secret) => secret.id ?? secret.src ?? '')
  if (secrets.length > 0) image.secrets = [...new Set(secrets)]
  const ssh = items(target.ssh).map((agent) => agent.id ?? '')
  if (ssh.length > 0) image.ssh = [...new Set(ssh)]
  if (contexts.length > 0)
    image.contexts = Object.fromEntries(
      contexts.map(([key, source]) => [key, source.startsWith('docker-image:') ? source : pathFrom(dir, from, source)]),
    )
  if (typeof target.network === 'string' && target.network !== 'default') image.network = target.network
  return { image, ignored: Object.keys(target).filter((key) => !TAKEN.has(key) && !SILENT.has(key)) }
}

/** Secrets and agents: `id=a,src=b` with older buildx (where `default` alone is an id), objects with newer. */
function items(value: unknown): { id?: string; src?: string }[] {
  if (!Array.isArray(value)) return []
  return value.map((item) => {
    if (typeof item !== 'string') return item
    const fields = Object.fromEntries(item.split(',').map((field) => field.split('=', 2)))
    return fields.id === undefined && fields.src === undefined ? { id: item.split('=')[0] } : fields
  })
}

const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((text) => typeof text === 'string') : [])

const textTable = (value: unknown): Record<string, string> =>
  Object.fromEntries(
    Object.entries((value as Target | undefined) ?? {}).flatMap(([key, text]) => (text === null ? [] : [[key, String(text)]])),
  )
