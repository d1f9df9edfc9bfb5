import { messageOf, unavailable } from '../errors.ts'

/** Six hours, the longest that the service gives. */
const TOKEN_SECONDS = 21_600
/** It is on this machine's own network card: it answers within milliseconds or isn't there. */
const TIMEOUT_MS = 1_000
const ENDPOINTS = { IPv4: 'http://169.254.169.254', IPv6: 'http://[fd00:ec2::254]' } as const

/** The instance is about to be taken away. */
export type InstanceNotice =
  /** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html. `inMs`: what is left, by the service's own clock. */
  | { kind: 'spot'; action: string; inMs: number }
  /** https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html */
  | { kind: 'autoscaling'; target: string }

/** States of an auto-scaling group in which the instance doesn't run. */
const LEAVING = new Set(['Terminated', 'Warmed:Terminated', 'Warmed:Stopped', 'Warmed:Hibernated'])

interface Answer {
  status: number
  body: string
  /** The service's time, ms since the epoch. */
  at: number
}

/**
 * What EC2 tells an instance of itself, by version 2 of the instance metadata service only: every request with a session token
 * (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html). In a container the token reaches us only with a hop limit of 2.
 */
export class InstanceMetadata {
  readonly #endpoint: string
  #token: Promise<string> | undefined

  private constructor(endpoint: string) {
    this.#endpoint = endpoint.replace(/\/$/, '')
  }

  /** Undefined with AWS_EC2_METADATA_DISABLED=true. AWS_EC2_METADATA_SERVICE_ENDPOINT and its _MODE (IPv4, IPv6) are the SDKs' own. Touches nothing. */
  static of(env: NodeJS.ProcessEnv = process.env): InstanceMetadata | undefined {
    if (env.AWS_EC2_METADATA_DISABLED?.toLowerCase() === 'true') return undefined
    const mode = env.AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE?.toLowerCase() === 'ipv6' ? 'IPv6' : 'IPv4'
    return new InstanceMetadata(env.AWS_EC2_METADATA_SERVICE_ENDPOINT || ENDPOINTS[mode])
  }

  /** The document at `/latest/meta-data/<path>`; undefined when there is none. Throws imds_unreachable (exit 4) within two seconds when this is no EC2 instance. */
  async get(path: string): Promise<string | undefined> {
    return (await this.#read(path))?.body
  }

  /** Throws imds_unreachable (exit 4). */
  async identity(): Promise<{ instance: string; region: string | undefined }> {
    const instance = await this.get('instance-id')
    if (instance === undefined) throw unreachable(this.#endpoint, 'it knows no instance-id')
    return { instance, region: await this.get('placement/region') }
  }

  /** Whether an auto-scaling group has this instance. */
  async inGroup(): Promise<boolean> {
    return (await this.get('autoscaling/target-lifecycle-state')) !== undefined
  }

  /** What is announced now. */
  async notices(): Promise<InstanceNotice[]> {
    const [spot, target = ''] = await Promise.all([
      this.#read('spot/instance-action'),
      this.get('autoscaling/target-lifecycle-state'),
    ])
    const found: InstanceNotice[] = []
    if (spot !== undefined) {
      const { action, time } = parsed(spot.body)
      const inMs = Date.parse(String(time)) - spot.at
      found.push({ kind: 'spot', action: String(action), inMs: Number.isFinite(inMs) ? inMs : 0 })
    }
    if (LEAVING.has(target.trim())) found.push({ kind: 'autoscaling', target: target.trim() })
    return found
  }

  async #read(path: string): Promise<Answer | undefined> {
    for (let tries = 0; ; tries++) {
      const token = await this.#session()
      const answer = await this.#call('GET', `/latest/meta-data/${path}`, { 'x-aws-ec2-metadata-token': token })
      if (answer.status === 200) return answer
      if (answer.status === 404) return undefined
      // The token ran out, or is one of before a migration of the instance.
      if (answer.status !== 401 || tries > 0) throw unreachable(this.#endpoint, `it answered ${answer.status} to ${path}`)
      this.#token = undefined
    }
  }

  #session(): Promise<string> {
    if (this.#token !== undefined) return this.#token
    const asked = this.#call('PUT', '/latest/api/token', {
      'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS),
    }).then(({ status, body }) => {
      if (status !== 200) throw unreachable(this.#endpoint, `it answered ${status} to the request for a token`)
      return body
    })
    this.#token = asked
    asked.catch(() => {
      this.#token = undefined
    })
    return asked
  }

  async #call(method: 'GET' | 'PUT', path: string, headers: Record<string, string>): Promise<Answer> {
    try {
      return await request(new URL(`${this.#endpoint}${path}`), method, headers)
    } catch (error) {
      throw unreachable(this.#endpoint, messageOf(error), error)
    }
  }
}

function request(url: URL, method: string, headers: Record<string, string>): Promise<Answer> {
  // No fetch: it may go through a proxy (NODE_USE_ENV_PROXY), and the service refuses what was forwarded.
  const http = process.getBuiltinModule('node:http')
  return new Promise((resolve, reject) => {
    const call = http.request(url, { method, headers, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) })
    call.once('error', reject)
    call.once('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          body: Buffer.concat(chunks).toString('utf8'),
          at: Date.parse(response.headers.date ?? '') || Date.now(),
        }),
      )
    })
    call.end()
  })
}

function parsed(body: string): { action?: unknown; time?: unknown } {
  try {
    return JSON.parse(body) as object
  } catch {
    return {}
  }
}

const unreachable = (endpoint: string, why: string, cause?: unknown) =>
  unavailable('imds_unreachable', `no instance metadata at ${endpoint}: ${why}`, {
    next: 'outside of EC2 set AWS_EC2_METADATA_DISABLED=true; in a container the instance needs a metadata hop limit of 2',
    ids: { endpoint },
    cause,
  })
