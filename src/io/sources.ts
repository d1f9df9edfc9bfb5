import { isAbsolute } from 'node:path'
import { refused } from '../errors.ts'

/**
 * Refuses, as `bad_repository`, every source that bake doesn't fetch from. Taken: https://host/path, ssh://[user@]host[:port]/path,
 * [user@]host:path, and with `allowLocal` an absolute path or file:///path. Never taken: what git reads as an option or as a transport helper
 * (gitremote-helpers(7): `ext::` runs a shell command), and credentials in the URL, which end up in logs and process lists.
 */
export function checkSource(source: string, options: { allowLocal: boolean }): void {
  const problem = problemOf(source, options.allowLocal)
  if (problem === undefined) return
  throw refused('bad_repository', `repository ${JSON.stringify(redactUrl(source))}: ${problem.what}`, {
    next:
      problem.next ?? `write it as https://host/path.git, git@host:path.git${options.allowLocal ? ' or an absolute path' : ''}`,
    ids: { repository: redactUrl(source) },
  })
}

/** True for a path or file: URL: a repository on this machine. */
export const isLocalSource = (source: string): boolean => isAbsolute(source) || /^file:/i.test(source)

/** The path of a local source. */
export const localPath = (source: string): string => (isAbsolute(source) ? source : decodeURIComponent(new URL(source).pathname))

/** Any text without user names and passwords in its URLs, for messages and logs. */
export const redactUrl = (text: string): string =>
  text.replace(/([a-z][a-z0-9+.-]*:\/\/)[^/@\s'"]*@/gi, (_, scheme) => `${scheme}***@`)

interface Problem {
  what: string
  next?: string
}

function problemOf(source: string, allowLocal: boolean): Problem | undefined {
  if (source === '') return { what: 'is empty' }
  if (/[\0-\x1f\x7f]/.test(source)) return { what: 'holds a control character' }
  if (source.startsWith('-')) return { what: 'starts with -, which git would read as an option' }
  if (/^[a-z0-9+.-]+::/i.test(source)) return { what: 'names a transport helper, which could run any command' }
  if (isAbsolute(source)) return allowLocal ? undefined : { what: "is a path on somebody's machine, which a worker can't read" }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(source)?.[1]?.toLowerCase()
  return scheme === undefined ? scpProblem(source) : urlProblem(source, scheme, allowLocal)
}

function urlProblem(source: string, scheme: string, allowLocal: boolean): Problem | undefined {
  if (!['https', 'ssh', 'file'].includes(scheme)) return { what: `${scheme}:// is not allowed, only https and ssh are` }
  if (!URL.canParse(source)) return { what: 'is not a URL' }
  const url = new URL(source)
  // git's credential protocol is made of lines.
  if (/%(?:0a|0d|00)/i.test(source)) return { what: 'holds an encoded line break' }
  if (scheme === 'file') {
    if (!allowLocal) return { what: "is a path on somebody's machine, which a worker can't read" }
    return /^file:\/\/\//i.test(source) ? undefined : { what: 'file:// with a host is not allowed' }
  }
  if (url.password !== '' || (scheme === 'https' && url.username !== ''))
    return {
      what: 'holds credentials',
      next: "leave out what stands before the @; git's credential helper or an SSH key of the worker opens it (git help credentials)",
    }
  if (decodeURIComponent(url.username).startsWith('-') || url.hostname.startsWith('-'))
    return { what: 'user or host starts with -' }
  return url.hostname === '' || url.pathname.length < 2 ? { what: 'names no host or no path' } : undefined
}

/** `[user@]host:path`: git takes everything before the first colon for the host if it has no slash. */
function scpProblem(source: string): Problem | undefined {
  const match = /^(?:(?<user>[^@:/]+)@)?(?<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+):(?<path>.+)$/i.exec(source)
  const { user = '', host = '', path = '' } = match?.groups ?? {}
  if (match === null || /\s/.test(source)) return { what: 'is neither a URL nor an absolute path' }
  if ([user, host, path].some((part) => part.startsWith('-'))) return { what: 'user, host or path starts with -' }
  return path.startsWith(':') ? { what: 'names a transport helper, which could run any command' } : undefined
}
