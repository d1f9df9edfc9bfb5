import { closest, distance } from 'fastest-levenshtein'
import { isName, normalPath, pathFault, registryFault } from './syntax.ts'

/** The candidate that `text` is a slip of: at most a third of its letters differ, two in short ones. */
export function nearest(text: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined
  const best = closest(text.toLowerCase(), candidates)
  return distance(text.toLowerCase(), best.toLowerCase()) <= Math.max(2, Math.floor(text.length / 3)) && best[0] !== undefined
    ? best
    : undefined
}

/** What people call a setting elsewhere, mostly in compose and docker-bake. */
const ELSEWHERE: Record<string, string> = {
  environment: 'env',
  depends_on: 'after',
  healthcheck: 'health',
  mem_limit: 'memory',
  additional_contexts: 'contexts',
  logging: 'log',
  buildargs: 'args',
  build_args: 'args',
  file: 'dockerfile',
  platform: 'platforms',
  secret: 'secrets',
  asg: 'autoscaling_group',
  name: 'project',
  services: 'images',
  repo: 'repository',
}

export function suggestKey(key: string, known: readonly string[]): string | undefined {
  const elsewhere = ELSEWHERE[key.toLowerCase()]
  if (elsewhere !== undefined && known.includes(elsewhere)) return elsewhere
  const snake = key
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('-', '_')
    .toLowerCase()
  return known.includes(snake) ? snake : nearest(key, known)
}

const PLATFORMS = [
  'linux/amd64',
  'linux/arm64',
  'linux/arm/v7',
  'linux/arm/v6',
  'linux/386',
  'linux/ppc64le',
  'linux/s390x',
  'linux/riscv64',
]
const MACHINES: Record<string, string> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  x64: 'amd64',
  aarch64: 'arm64',
  armv8: 'arm64',
  armv7: 'arm/v7',
  armhf: 'arm/v7',
}

const DURATIONS = new Set(['within', 'max_age', 'steal_after', 'deprecate_after', 'warmup', 'bake_time', 'checkpoint_delay'])
const SIZES = new Set(['memory', 'size', 'cache', 'free'])

const settingOf = (path: readonly PropertyKey[]): string => String(path.findLast((part) => typeof part === 'string'))

/** What a setting with a unit must be, in words. */
export const unitOf = (path: readonly PropertyKey[]): string | undefined =>
  DURATIONS.has(settingOf(path))
    ? 'a time with a unit, such as 60s'
    : SIZES.has(settingOf(path))
      ? 'a size with a unit, such as 20GB'
      : undefined

/** What was probably meant by `value` at `path`; `expected` are the kinds that it should have been. Undefined when nothing is likely. */
export function suggest(path: readonly PropertyKey[], value: unknown, expected: readonly string[]): string | undefined {
  if (value === undefined || value === null || typeof value === 'object') return undefined
  const setting = settingOf(path)
  const text = String(value)
  if (DURATIONS.has(setting)) return suggestDuration(setting, text)
  if (SIZES.has(setting)) return /^\d+$/.test(text) ? `${text}MB` : undefined
  if (setting === 'ports' && !expected.includes('a list')) return /^\d+$/.test(text) ? `"${text}:${text}"` : undefined
  if (expected.includes('a list')) return `[${text}]`
  if (expected.includes('true or false'))
    return /^(?:yes|on|y|true|1)$/i.test(text) ? 'true' : /^(?:no|off|n|false|0)$/i.test(text) ? 'false' : undefined
  if (expected.includes('text')) return typeof value === 'string' ? undefined : `"${text}"`
  if (expected.some((kind) => kind.includes('number'))) return /^\d+$/.test(text) ? text : undefined
  return rewrite(setting, text)
}

function suggestDuration(setting: string, text: string): string | undefined {
  if (/^\d+$/.test(text)) return `${text}${setting === 'max_age' || setting === 'deprecate_after' ? 'd' : 's'}`
  const spelled = /^(\d+) ?(sec|min|hour|day|week)/i.exec(text)
  return spelled === null ? undefined : `${spelled[1]}${spelled[2]![0]!.toLowerCase()}`
}

function rewrite(setting: string, text: string): string | undefined {
  switch (setting) {
    case 'platforms':
      return suggestPlatform(text)
    case 'registry':
      return suggestRegistry(text)
    case 'repository':
    case 'repositories':
      return suggestRepository(text)
    case 'env_from': {
      const meant = `ssm:/${text.replace(/^ssm:/, '').replace(/^\/+/, '')}`
      return /^ssm:\/[A-Za-z0-9_.\-/]+$/.test(meant) ? meant : undefined
    }
    case 'ssm':
      return /^[A-Za-z0-9_.-]/.test(text) ? `/${text}` : undefined
    case 'command':
      return /^(?:ba|da)?sh -c/.test(text) ? undefined : `["sh", "-c", ${JSON.stringify(text)}]`
    case 'project':
    case 'name': {
      const meant = text
        .trim()
        .toLowerCase()
        .replace(/[^a-z0-9._-]+/g, '-')
        .replace(/^[._-]+|[._-]+$/g, '')
      return isName(meant) && meant !== text ? meant : undefined
    }
    default: {
      const meant = text.replaceAll('\\', '/')
      return text.includes('\\') && pathFault(meant) === undefined ? normalPath(meant) : undefined
    }
  }
}

function suggestPlatform(text: string): string | undefined {
  const machine = text.toLowerCase().replace(/^linux\//, '')
  const meant = `linux/${MACHINES[machine] ?? machine}`
  return PLATFORMS.includes(meant) ? meant : nearest(text, PLATFORMS)
}

function suggestRegistry(text: string): string | undefined {
  const bare = text
    .replace(/^[a-z]+:\/\//i, '')
    .replace(/@.*$/, '')
    .replace(/(\/[^/:]*):[^/]*$/, '$1')
    .replace(/\/+$/, '')
  return [bare, bare.toLowerCase(), `docker.io/${bare}`].find(
    (candidate) => candidate !== text && registryFault(candidate) === undefined,
  )
}

function suggestRepository(text: string): string | undefined {
  if (/^(?:http|git):\/\/[^@]*$/.test(text)) return text.replace(/^[a-z]+/, 'https')
  if (/^file:\/\/\//.test(text)) return text.slice('file://'.length)
  if (/^(?:github\.com|gitlab\.com|bitbucket\.org)\/./.test(text)) return `https://${text}`
  return /^[\w.-]+(?:\/[\w.-]+)+$/.test(text) ? `./${text}` : undefined
}
