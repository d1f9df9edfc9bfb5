import { createHash } from 'node:crypto'
import { unavailable } from '../errors.ts'
import { DIGEST_PATTERN } from '../names.ts'
import type { Descriptor, Manifest, Reference, Registry, RegistryCall } from './registry.ts'
import { RegistryAuth } from './registry-auth.ts'
import type { CredentialSource } from './registry-credentials.ts'
import { malformed, originOf, refusedBy, unreachable } from './registry-errors.ts'
import { exchange, type HttpOptions, type HttpRequest, type HttpResponse, TooLongError } from './registry-request.ts'

export interface HttpRegistryOptions {
  /** What to show a host that asks who it is; RegistryLogins of this process's environment unless told. */
  credentials?: CredentialSource
  /** One attempt, ms. */
  timeoutMs?: number
  /** Attempts after the first. */
  retries?: number
  signal?: AbortSignal
}

/** Registries need not take larger ones (distribution-spec, "Pushing Manifests"). */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024
/** An image config; `blob` is for nothing larger. */
const MAX_BLOB_BYTES = 16 * 1024 * 1024
const MAX_ERROR_BYTES = 1024 * 1024
/** The spec sets no limit; blob stores redirect once. */
const MAX_REDIRECTS = 5
const DEFAULT_TIMEOUT_MS = 15_000
const DEFAULT_RETRIES = 2

const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')

/**
 * Any registry that speaks the OCI distribution API. Plain HTTP with this machine, HTTPS with every other. Errors are the world's (exit 4):
 * registry_unreachable, registry_denied, registry_full, registry_error.
 */
export class HttpRegistry implements Registry {
  readonly #options: HttpRegistryOptions
  readonly #auths = new Map<string, RegistryAuth>()
  readonly #credentials: CredentialSource

  constructor(options: HttpRegistryOptions = {}) {
    this.#options = options
    this.#credentials = options.credentials ?? ownLogins()
  }

  async head(reference: Reference, call: RegistryCall = {}): Promise<Descriptor | undefined> {
    const url = manifestUrl(reference)
    const answer = await this.#request(reference, { method: 'HEAD', url, headers: { accept: ACCEPT }, maxBytes: 0 }, call)
    if (answer.status === 404) return undefined
    if (answer.status !== 200) throw refusedBy(reference.host, `a look at ${nameOf(reference)}`, answer)
    const digest = answer.headers['docker-content-digest']
    const size = Number(answer.headers['content-length'])
    // Some registries leave the digest out: then only the manifest itself tells it.
    if (digest === undefined || !Number.isSafeInteger(size)) return this.manifest(reference, call)
    if (!DIGEST_PATTERN.test(String(digest))) throw malformed(reference.host, `names a digest that is none: ${digest}`)
    return { digest: String(digest), mediaType: mediaTypeOf(answer), size }
  }

  async manifest(reference: Reference, call: RegistryCall = {}): Promise<Manifest | undefined> {
    const url = manifestUrl(reference)
    const request: HttpRequest = { method: 'GET', url, headers: { accept: ACCEPT }, maxBytes: MAX_MANIFEST_BYTES }
    const answer = await this.#request(reference, request, call)
    if (answer.status === 404) return undefined
    if (answer.status !== 200) throw refusedBy(reference.host, `reading ${nameOf(reference)}`, answer)
    const digest = digestOf(answer.body)
    const told = reference.digest ?? answer.headers['docker-content-digest']
    if (told !== undefined && told !== digest)
      throw malformed(reference.host, `sent other bytes for ${nameOf(reference)} than ${told} (they are ${digest})`)
    return { digest, mediaType: mediaTypeOf(answer), size: answer.body.length, bytes: answer.body }
  }

  async blob(reference: Reference, digest: string, call: RegistryCall = {}): Promise<Uint8Array> {
    const url = new URL(`${originOf(reference.host)}/v2/${reference.path}/blobs/${digest}`)
    const answer = await this.#request(reference, { method: 'GET', url, headers: {}, maxBytes: MAX_BLOB_BYTES }, call)
    const what = `blob ${digest} of ${reference.host}/${reference.path}`
    if (answer.status === 404)
      throw unavailable('registry_error', `registry ${reference.host} has lost ${what}`, {
        next: 'push the image again: bake image --rebuild',
        ids: { host: reference.host, digest },
      })
    if (answer.status !== 200) throw refusedBy(reference.host, `reading ${what}`, answer)
    if (digestOf(answer.body) !== digest) throw malformed(reference.host, `sent other bytes for ${what}`)
    return answer.body
  }

  async tag(reference: Reference, tag: string, manifest: Manifest, call: RegistryCall = {}): Promise<void> {
    const named: Reference = { host: reference.host, path: reference.path, tag }
    const headers = { 'content-type': manifest.mediaType }
    const request: HttpRequest = {
      method: 'PUT',
      url: manifestUrl(named),
      headers,
      body: manifest.bytes,
      maxBytes: MAX_ERROR_BYTES,
    }
    const answer = await this.#request(named, request, call, 'pull,push')
    if (answer.status !== 201 && answer.status !== 200) {
      const refusal = refusedBy(reference.host, `tagging ${nameOf(named)}`, answer)
      // Somebody else put the very same meanwhile; where tags don't move, that is refused too.
      if (refusal.code === 'tag_immutable' && (await this.head(named, call))?.digest === manifest.digest) return
      throw refusal
    }
    const stored = answer.headers['docker-content-digest']
    if (stored !== undefined && stored !== manifest.digest)
      throw malformed(reference.host, `stored ${stored} as ${nameOf(named)}`)
  }

  async #request(reference: Reference, request: HttpRequest, call: RegistryCall, actions = 'pull'): Promise<HttpResponse> {
    const { host, path } = reference
    const options = this.#httpOptions(call)
    const scope = `repository:${path}:${actions}`
    const auth = this.#auth(host)
    try {
      const send = (authorization: string | undefined) =>
        follow({ ...request, headers: authorization ? { ...request.headers, authorization } : request.headers }, options)
      const sent = await auth.header(scope, options)
      const answer = await send(sent)
      const another =
        (answer.status === 401 && auth.challenged(answer.headers['www-authenticate'], scope, sent)) ||
        (answer.status === 403 && sent !== undefined && (await auth.expired(scope, sent)))
      if (!another) return answer
      const fresh = await auth.header(scope, options)
      return fresh === undefined || fresh === sent ? answer : await send(fresh)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof TooLongError) throw malformed(host, `sent an answer that is ${error.message}`, error)
      throw unreachable(host, error)
    }
  }

  #auth(host: string): RegistryAuth {
    const known = this.#auths.get(host) ?? new RegistryAuth(host, this.#credentials)
    this.#auths.set(host, known)
    return known
  }

  #httpOptions(call: RegistryCall): HttpOptions {
    const signals = [this.#options.signal, call.signal].filter((signal) => signal !== undefined)
    return {
      timeoutMs: call.timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      retries: call.retries ?? this.#options.retries ?? DEFAULT_RETRIES,
      signal: signals.length > 1 ? AbortSignal.any(signals) : signals[0],
    }
  }
}

/** Loaded when a registry asks: most on this machine never do. */
function ownLogins(): CredentialSource {
  let logins: Promise<CredentialSource> | undefined
  return async (host, refused) => {
    logins ??= import('./registry-logins.ts').then(({ RegistryLogins }) => new RegistryLogins().credentials)
    return (await logins)(host, refused)
  }
}

/** Follows redirects of reads. Authorization goes to the origin that asked for it only: a blob store has its own in the URL. */
async function follow(request: HttpRequest, options: HttpOptions): Promise<HttpResponse> {
  let { url, headers } = request
  for (let hops = 0; ; hops++) {
    const answer = await exchange({ ...request, url, headers }, options)
    const location = answer.headers.location
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined || request.method === 'PUT') return answer
    if (hops >= MAX_REDIRECTS || !URL.canParse(location, url.href)) throw malformed(url.host, 'redirects without end')
    const next = new URL(location, url)
    if (!['http:', 'https:'].includes(next.protocol) || (url.protocol === 'https:' && next.protocol === 'http:'))
      throw malformed(url.host, `redirects to ${next.protocol}//`)
    if (next.origin !== url.origin) {
      const { authorization: _, ...rest } = headers
      headers = rest
    }
    url = next
  }
}

const manifestUrl = ({ host, path, tag, digest }: Reference): URL =>
  new URL(`${originOf(host)}/v2/${path}/manifests/${digest ?? tag ?? 'latest'}`)

const nameOf = ({ host, path, tag, digest }: Reference): string =>
  `${host}/${path}${digest ? `@${digest}` : `:${tag ?? 'latest'}`}`

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

const mediaTypeOf = ({ headers }: HttpResponse): string =>
  (headers['content-type'] ?? 'application/octet-stream').split(';')[0]!.trim()
