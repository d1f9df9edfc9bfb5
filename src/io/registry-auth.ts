import type { CredentialSource, Credentials } from './registry-credentials.ts'
import { malformed, refusedBy, unreachable } from './registry-errors.ts'
import { exchange, type HttpOptions } from './registry-request.ts'

interface Challenge {
  scheme: 'basic' | 'bearer'
  realm: string
  service: string | undefined
}

/** Names this client to a token server: https://distribution.github.io/distribution/spec/auth/oauth/ */
const CLIENT_ID = 'bake'
const MAX_TOKEN_BYTES = 1024 * 1024
/** A token that says nothing of its life lives this long (token authentication specification). */
const DEFAULT_TOKEN_SECONDS = 60
/** Renewed so much before its end, for slow requests and clocks that differ. */
const TOKEN_MARGIN_MS = 10_000

/** RFC 7617 */
export const basicHeader = ({ username, password }: Pick<Credentials, 'username' | 'password'>): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

/** The Authorization headers of one registry host. Asks for nothing until the registry does. */
export class RegistryAuth {
  readonly #host: string
  readonly #credentialsOf: CredentialSource
  #challenge: Challenge | undefined
  #credentials: Promise<Credentials | undefined> | undefined
  #refused: string | undefined
  readonly #tokens = new Map<string, { header: Promise<string | undefined>; endsAtMs: number }>()

  constructor(host: string, credentialsOf: CredentialSource) {
    this.#host = host
    this.#credentialsOf = credentialsOf
  }

  /** The header for `scope`; undefined before the first challenge and when there are no credentials to give. */
  async header(scope: string, options: HttpOptions): Promise<string | undefined> {
    const challenge = this.#challenge
    if (!challenge) return undefined
    const credentials = await this.#current()
    if (challenge.scheme === 'basic') return credentials && basicHeader(credentials)
    const known = this.#tokens.get(scope)
    if (known && known.endsAtMs > Date.now()) return known.header
    const entry = { header: Promise.resolve<string | undefined>(undefined), endsAtMs: Number.POSITIVE_INFINITY }
    entry.header = this.#token(challenge, scope, credentials, options).then(({ token, seconds }) => {
      entry.endsAtMs = Date.now() + seconds * 1000 - TOKEN_MARGIN_MS
      return `Bearer ${token}`
    })
    this.#tokens.set(scope, entry)
    entry.header.catch(() => this.#tokens.delete(scope))
    return entry.header
  }

  /** Takes in the WWW-Authenticate of a 401 and forgets what was refused (`sent`). True when it can be answered: with another header than before. */
  challenged(header: string | undefined, scope: string, sent: string | undefined): boolean {
    const challenge = parseChallenge(header)
    if (!challenge) return false
    this.#challenge = challenge
    this.#forget(scope, sent)
    return true
  }

  /**
   * After a 403 to `sent`: true when that may be an expired token, forgotten now. ECR says 403, without a challenge, to one whose hours are over
   * (https://github.com/flipt-io/flipt/issues/3043), where others say 401.
   */
  async expired(scope: string, sent: string): Promise<boolean> {
    const credentials = await this.#credentials
    if (credentials?.renewAtMs === undefined) return false
    this.#forget(scope, sent)
    return true
  }

  #forget(scope: string, sent: string | undefined): void {
    this.#tokens.delete(scope)
    // They may have been renewed since they were read: a docker login, a credential helper whose hours were over.
    this.#credentials = undefined
    this.#refused = sent
  }

  async #current(): Promise<Credentials | undefined> {
    const held = await this.#credentials
    if (held !== undefined && held.renewAtMs !== undefined && held.renewAtMs <= Date.now()) this.#credentials = undefined
    if (this.#credentials === undefined) {
      const asked = this.#credentialsOf(this.#host, this.#refused)
      this.#credentials = asked
      // A failure is the world's of that moment: the next request asks anew.
      asked.catch(() => {
        if (this.#credentials === asked) this.#credentials = undefined
      })
    }
    return this.#credentials
  }

  async #token(
    challenge: Challenge,
    scope: string,
    credentials: Credentials | undefined,
    options: HttpOptions,
  ): Promise<{ token: string; seconds: number }> {
    const url = URL.canParse(challenge.realm) ? new URL(challenge.realm) : undefined
    if (!url || !['https:', 'http:'].includes(url.protocol))
      throw malformed(this.#host, `names no token server: ${challenge.realm}`)
    const query = new URLSearchParams({ ...(challenge.service ? { service: challenge.service } : {}), scope })
    const refresh = credentials?.identityToken
    const headers: Record<string, string> = { accept: 'application/json' }
    let body: Buffer | undefined
    if (refresh) {
      query.set('grant_type', 'refresh_token')
      query.set('refresh_token', refresh)
      query.set('client_id', CLIENT_ID)
      headers['content-type'] = 'application/x-www-form-urlencoded'
      body = Buffer.from(query.toString())
    } else {
      for (const [name, value] of query) url.searchParams.append(name, value)
      if (credentials) headers.authorization = basicHeader(credentials)
    }
    const answer = await exchange(
      { method: refresh ? 'POST' : 'GET', url, headers, body, maxBytes: MAX_TOKEN_BYTES },
      options,
    ).catch((error) => {
      options.signal?.throwIfAborted()
      throw unreachable(url.host, error)
    })
    if (answer.status === 200) return parseToken(answer.body, this.#host)
    this.#credentials = undefined
    throw refusedBy(this.#host, `a token for ${scope}`, answer)
  }
}

function parseToken(body: Buffer, host: string): { token: string; seconds: number } {
  let value: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw malformed(host, 'has a token server that answers no JSON', error)
  }
  const token = value?.token || value?.access_token
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw malformed(host, 'has a token server that gives no token')
  return { token, seconds: typeof value?.expires_in === 'number' ? value.expires_in : DEFAULT_TOKEN_SECONDS }
}

/** RFC 9110 §11.6.1, as far as registries use it: one challenge with quoted parameters. */
function parseChallenge(header: string | undefined): Challenge | undefined {
  const scheme = /^\s*(basic|bearer)\b/i.exec(header ?? '')?.[1]?.toLowerCase()
  if (scheme !== 'basic' && scheme !== 'bearer') return undefined
  const parameter = (name: string) => {
    const match = new RegExp(`[\\s,]${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,]+))`, 'i').exec(header!)
    return match?.[1]?.replace(/\\(.)/g, '$1') ?? match?.[2]
  }
  return { scheme, realm: parameter('realm') ?? '', service: parameter('service') }
}
