import { awsOptions } from './aws-client.ts'
import { ecrError } from './ecr-errors.ts'
import type { EcrRegistry } from './ecr-host.ts'
import { basicHeader } from './registry-auth.ts'
import type { Credentials } from './registry-credentials.ts'

/** A token that AWS said nothing about, or that an emulator dates into the past, is asked for again after this long. */
const SHORTEST_LIFE_MS = 60_000
/** A host that refuses the newest token too refuses the account: asking AWS at every request would only meet its limits. */
const REFUSAL_PAUSE_MS = 30_000

interface Entry {
  token: Promise<Credentials>
  /** The header that it makes, once it is there. */
  header?: string
  renewAtMs: number
  askedAtMs: number
  /** Asked for because the one before was refused. */
  afterRefusal: boolean
}

/**
 * Passwords for ECR (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html): one per region, kept for half of its 12 hours, so
 * that a build of any permitted length ends within it. A token serves every registry of that region that the caller's IAM permissions reach.
 */
export class EcrTokens {
  readonly #entries = new Map<string, Entry>()

  /** A token that isn't `refused` (an Authorization header), if AWS gives another. Throws registry_denied, registry_unreachable, registry_throttled (exit 4). */
  async token(registry: EcrRegistry, refused?: string): Promise<Credentials> {
    const at = `${registry.region}${registry.fips ? '-fips' : ''}`
    const known = this.#entries.get(at)
    const now = Date.now()
    if (known !== undefined && known.renewAtMs > now) {
      const turnedDown = refused !== undefined && known.header === refused
      if (!turnedDown || (known.afterRefusal && now - known.askedAtMs < REFUSAL_PAUSE_MS)) return known.token
    }
    const entry: Entry = {
      token: this.#ask(registry).then(({ credentials, endsAtMs }) => {
        entry.header = basicHeader(credentials)
        entry.renewAtMs = Date.now() + Math.max(SHORTEST_LIFE_MS, (endsAtMs - Date.now()) / 2)
        return { ...credentials, renewAtMs: entry.renewAtMs }
      }),
      renewAtMs: Number.POSITIVE_INFINITY,
      askedAtMs: now,
      afterRefusal: refused !== undefined,
    }
    this.#entries.set(at, entry)
    // A failure is not remembered.
    entry.token.catch(() => {
      if (this.#entries.get(at) === entry) this.#entries.delete(at)
    })
    return entry.token
  }

  async #ask(registry: EcrRegistry): Promise<{ credentials: Credentials; endsAtMs: number }> {
    const { ECRClient, GetAuthorizationTokenCommand } = await import('@aws-sdk/client-ecr')
    const options = await awsOptions({ service: 'ECR', region: registry.region })
    const client = new ECRClient({ ...options, ...(registry.fips && { useFipsEndpoint: true }) })
    try {
      const { authorizationData: [data] = [] } = await client.send(new GetAuthorizationTokenCommand({}))
      const [username = '', ...rest] = Buffer.from(data?.authorizationToken ?? '', 'base64')
        .toString('utf8')
        .split(':')
      return { credentials: { username, password: rest.join(':') }, endsAtMs: data?.expiresAt?.getTime() ?? 0 }
    } catch (error) {
      throw ecrError(error, { what: 'a token', where: registry.region })
    } finally {
      client.destroy()
    }
  }
}
