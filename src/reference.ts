import { refused } from './errors.ts'
import type { Reference } from './io/registry.ts'

/** Grammar of https://github.com/distribution/reference/blob/main/regexp.go */
const HOST =
  /^(?:\[[0-9a-fA-F:]+\]|(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*)(?::\d+)?$/
const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/
/** Longest name the grammar's authors allow, host included. */
const MAX_NAME_CHARACTERS = 255

const HUB = 'docker.io'

/**
 * An image reference by Docker's normalisation rules: no host means docker.io, one path component there means `library/`, no tag and no digest
 * mean `latest`. A first component is a host when it has a dot, a port or capitals, or is `localhost`. Throws bad_reference (exit 2).
 * Source: https://github.com/distribution/reference/blob/main/normalize.go
 */
export function parseReference(text: string): Reference {
  const bad = (why: string) =>
    refused('bad_reference', `"${text}" is not an image reference: ${why}`, {
      next: 'write [host[:port]/]path[:tag][@sha256:…], in lower case',
      ids: { reference: text },
    })
  const at = text.indexOf('@')
  const digest = at < 0 ? undefined : text.slice(at + 1)
  if (digest !== undefined && !DIGEST.test(digest)) throw bad('its digest is not sha256:<64 hex digits>')
  const named = at < 0 ? text : text.slice(0, at)
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1)
  const tag = colon < 0 ? undefined : named.slice(colon + 1)
  if (tag !== undefined && !TAG.test(tag)) throw bad(`"${tag}" is no tag`)
  const name = colon < 0 ? named : named.slice(0, colon)
  const [host, path] = splitHost(name)
  if (!HOST.test(host)) throw bad(`"${host}" is no host`)
  if (!PATH.test(path)) throw bad(path === '' ? 'its name is empty' : `"${path}" is no repository name`)
  if (/^[0-9a-f]{64}$/.test(name)) throw bad('64 hex digits alone would be an image id')
  if (host.length + 1 + path.length > MAX_NAME_CHARACTERS) throw bad(`its name is longer than ${MAX_NAME_CHARACTERS} characters`)
  return {
    host,
    path,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: 'latest' } : {}),
    ...(digest !== undefined ? { digest } : {}),
  }
}

function splitHost(name: string): [host: string, path: string] {
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  const isHost = first !== '' && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase())
  if (!isHost) return [HUB, name !== '' && !name.includes('/') ? `library/${name}` : name]
  const path = name.slice(slash + 1)
  if (first !== HUB && first !== 'index.docker.io') return [first, path]
  return [HUB, path.includes('/') ? path : `library/${path}`]
}

/** `host/path[:tag][@digest]`, in full: the same for every way of writing one reference. */
export const formatReference = (reference: Reference): string =>
  `${reference.host}/${reference.path}${reference.tag ? `:${reference.tag}` : ''}${reference.digest ? `@${reference.digest}` : ''}`

/** The name by which BuildKit looks up a named context: the familiar form without `:latest`. Undefined when it is no reference at all. */
export function contextName(text: string): string | undefined {
  try {
    const { host, path, tag, digest } = parseReference(text)
    const name = host === HUB ? path.replace(/^library\/(?=[^/]+$)/, '') : `${host}/${path}`
    return `${name}${tag !== undefined && (tag !== 'latest' || digest) ? `:${tag}` : ''}${digest ? `@${digest}` : ''}`
  } catch {
    return undefined
  }
}
