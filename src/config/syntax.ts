import { NAME_PATTERN } from '../names.ts'
import type { PortMapping } from './types.ts'

export const isName = (text: string): boolean => NAME_PATTERN.test(text)

/**
 * What is wrong with a path of bake.yaml, if anything. Nothing may leave the directory (docs/design.md §11); symbolic links are checked after
 * checkout.
 */
export function pathFault(text: string): string | undefined {
  if (text.trim() === '') return 'must not be empty; . is the directory of bake.yaml'
  if (/[\0-\x1f\x7f]/.test(text)) return 'must not have control characters'
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^[^/]+@[^/]+:/.test(text))
    return 'must be a path inside the repository, not a URL'
  if (text.startsWith('/') || /^[A-Za-z]:[\\/]/.test(text)) return 'must not be an absolute path'
  if (text.startsWith('~')) return 'must be a path inside the repository, not in a home directory'
  if (text.includes('\\')) return 'must use / between directories'
  return text.split('/').includes('..') ? 'must not have .. in it: only what is below can be part of a build' : undefined
}

/** `./jobs/` → `jobs`, `./` → `.` */
export const normalPath = (text: string): string =>
  text
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/') || '.'

/** What is wrong with a repository's address, if anything. https, ssh and local paths only: git's other transports run programs or send data in the clear. */
export function repositoryFault(text: string): string | undefined {
  if (text.startsWith('-')) return 'must not start with -'
  if (/[\0-\x1f\x7f]/.test(text)) return 'must not have control characters'
  if (isLocalRepository(text)) return undefined
  if (/^[A-Za-z0-9+.-]+::/.test(text))
    return 'must be an https:// or ssh address or a local path: transport helpers (xx::) run programs'
  if (text.includes(' ')) return 'must not have blanks'
  const url = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i.exec(text)
  if (url !== null) return urlFault(url[1]!.toLowerCase(), url[2]!)
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^-].*$/.test(text)) return undefined
  return 'must be https://host/path, ssh://user@host/path, user@host:path, or a local path that starts with / or .'
}

function urlFault(scheme: string, rest: string): string | undefined {
  if (scheme !== 'https' && scheme !== 'ssh') return `must be an https:// or ssh address or a local path, not ${scheme}://`
  const authority = /^(?:([^/@]*)@)?([^/@]*)(\/.+)$/.exec(rest)
  if (authority === null) return `must name a host and a path, such as ${scheme}://host/path`
  if (authority[1]?.includes(':')) return 'must not hold a password: use a git credential helper or ssh'
  if (authority[1]?.startsWith('-') || !/^[A-Za-z0-9[][A-Za-z0-9.:\]-]*$/.test(authority[2]!)) return 'has no valid host'
  return undefined
}

/** True for a repository's address that is a path on this machine. */
export const isLocalRepository = (text: string): boolean => /^\.{0,2}\/|^\.{1,2}$/.test(text)

/** What is wrong with the registry `host[:port][/path]`, if anything; its grammar is that of distribution/reference. */
export function registryFault(text: string): string | undefined {
  if (/^[a-z]+:\/\//i.test(text)) return 'must be without a scheme, host[:port]/path'
  if (text.includes('@')) return 'must be without a digest or user, host[:port]/path'
  const [host = '', ...path] = text.split('/')
  if (!/^(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/.test(host))
    return 'must start with a host, host[:port]/path'
  const last = path.at(-1)
  if (last?.includes(':')) return 'must be without a tag: bake sets the tags'
  if (path.some((part) => !/^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/.test(part)))
    return 'must have a path of lower-case letters, digits and single . _ - between them'
  return undefined
}

/** `80:3000`, `127.0.0.1:80:3000`, `[::1]:53:53/udp` → its parts, undefined when it isn't one. */
export function parsePort(text: string): PortMapping | undefined {
  const match = /^(?:(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):)?(\d{1,5}):(\d{1,5})(?:\/(tcp|udp))?$/.exec(text)
  if (match === null) return undefined
  const [, address, host, container, protocol] = match
  const ports = { host: Number(host), container: Number(container) }
  if ([ports.host, ports.container].some((port) => port < 1 || port > 65535)) return undefined
  return { ...(address === undefined ? {} : { address }), ...ports, protocol: protocol === 'udp' ? 'udp' : 'tcp' }
}

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }

/** `1h30m` → 5400. Takes only what DURATION_PATTERN lets through. */
export const parseDuration = (text: string): number =>
  [...text.matchAll(/([0-9]+)([wdhms])/g)].reduce((sum, [, count, unit]) => sum + Number(count) * SECONDS[unit!]!, 0)

/** `20GB` → bytes, powers of 1024 as docker counts. Takes only what SIZE_PATTERN lets through. */
export function parseSize(text: string): number {
  const power = 'bkmgt'.indexOf(/[a-z]/i.exec(text)![0].toLowerCase())
  return Math.round(Number.parseFloat(text) * 1024 ** power)
}
