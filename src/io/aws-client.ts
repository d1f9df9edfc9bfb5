import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { LoadedConfigSelectors } from '@smithy/core/config'

const CONNECT_TIMEOUT_MS = 5_000
/** S3 and SQS answer within 100 ms or so; a long poll is given its own time-out. */
const REQUEST_TIMEOUT_MS = 10_000
/** An answer that stopped halfway. Longer than the longest long poll, 20 s. */
const SILENCE_MS = 30_000
/** One connection per long poll, two per build, and a few for the rest. */
const MAX_SOCKETS = 64
/** With the SDK's `standard` mode: about a second in all for 5xx and lost connections, 15 s at most for throttling. Then it's the caller's to go on or not. */
const MAX_ATTEMPTS = 5

const LOOPBACK = new Set(['127.0.0.1', 'localhost', '[::1]'])
/** A proxy elsewhere can't reach this machine's own emulator. */
const NEVER_PROXIED = 'localhost,127.0.0.1,[::1],::1'

export interface AwsPlace {
  /** The SDK's name of the service, as in AWS_ENDPOINT_URL_<NAME>. */
  service: 'Auto Scaling' | 'EBS' | 'EC2' | 'ECR' | 'Elastic Load Balancing v2' | 'S3' | 'SNS' | 'SQS' | 'SSM' | 'STS'
  region: string
  /** `http://127.0.0.1:PORT` of this machine's own emulator. Else AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL or the profile's, else AWS. */
  endpoint?: string | undefined
}

export type AwsOptions = Awaited<ReturnType<typeof awsOptions>>

/**
 * What every SDK client of bake is made with. Credentials, profiles, retry mode, FIPS and dual stack are the SDK's own defaults
 * (https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html); only an emulator on loopback needs no credentials. Proxies are those of
 * HTTPS_PROXY, HTTP_PROXY and NO_PROXY; other certificate authorities NODE_EXTRA_CA_CERTS, as everywhere in Node.
 */
export async function awsOptions(place: AwsPlace) {
  const { loadConfig } = await import('@smithy/core/config')
  const endpoint = place.endpoint ?? (await configuredEndpoint(place.service))
  const agent = { keepAlive: true, maxSockets: MAX_SOCKETS, proxyEnv: proxies(process.env) }
  return {
    region: place.region,
    maxAttempts: loadConfig(ATTEMPTS),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(needsNone(place, endpoint) ? { credentials: NO_CREDENTIALS } : {}),
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      socketTimeout: SILENCE_MS,
      throwOnRequestTimeout: true,
      // An idle keep-alive socket is unref'd by the agent, so it keeps no process alive.
      httpAgent: agent,
      httpsAgent: agent,
      // Else it tells console.warn of busy connections, in the middle of JSON lines.
      logger: SILENT,
    },
  }
}

/** This machine's own queue takes any; whatever AWS credentials are around (of a profile that has run out, of a CI job) are not for it. */
const needsNone = (place: AwsPlace, endpoint: string | undefined): boolean =>
  isLoopback(place.endpoint) || (isLoopback(endpoint) && !hasCredentials(process.env))

const NO_CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local' }
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/** The SDK's own look-up, except that 3 is what it tries when nobody says. */
const ATTEMPTS: LoadedConfigSelectors<number> = {
  environmentVariableSelector: (env) => attempts(env.AWS_MAX_ATTEMPTS),
  configFileSelector: (profile) => attempts(profile.max_attempts),
  default: MAX_ATTEMPTS,
}

const attempts = (text: string | undefined): number | undefined => (Number(text) >= 1 ? Math.floor(Number(text)) : undefined)

/**
 * AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL or the profile's; undefined: AWS. The SDK looks this up itself (https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html), but too late and without telling: whether S3
 * takes bucket names in paths and whether credentials are needed hangs on it.
 */
export async function configuredEndpoint(service: AwsPlace['service']): Promise<string | undefined> {
  const { loadConfig } = await import('@smithy/core/config')
  const ignored: LoadedConfigSelectors<boolean> = {
    environmentVariableSelector: (env) => truth(env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS),
    configFileSelector: (profile) => truth(profile.ignore_configured_endpoint_urls),
    default: false,
  }
  if (await loadConfig(ignored)()) return undefined
  const id = service.replaceAll(' ', '_')
  const found = await loadConfig<string>({
    environmentVariableSelector: (env) => env[`AWS_ENDPOINT_URL_${id.toUpperCase()}`] || env.AWS_ENDPOINT_URL || undefined,
    configFileSelector: (profile, file) =>
      file?.[`services.${profile.services}`]?.[`${id.toLowerCase()}.endpoint_url`] || profile.endpoint_url || undefined,
    default: '',
  })()
  return found || undefined
}

/** Whether a service is an emulator: AWS's own endpoints, private ones of a VPC included, are https always. */
export const isEmulated = (endpoint: string | undefined): boolean => endpoint?.startsWith('http:') === true

const truth = (text: string | undefined): boolean | undefined => (text ? text.toLowerCase() === 'true' : undefined)

const isLoopback = (endpoint: string | undefined): boolean =>
  endpoint !== undefined && LOOPBACK.has(URL.parse(endpoint)?.hostname ?? '')

/** Something of the standard chain is set up, short of asking a metadata service. */
function hasCredentials(env: NodeJS.ProcessEnv): boolean {
  const set = [
    'AWS_ACCESS_KEY_ID',
    'AWS_PROFILE',
    'AWS_WEB_IDENTITY_TOKEN_FILE',
    'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
    'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  ]
  const home = join(homedir(), '.aws')
  const files = [env.AWS_SHARED_CREDENTIALS_FILE || join(home, 'credentials'), env.AWS_CONFIG_FILE || join(home, 'config')]
  return set.some((name) => env[name]) || files.some((file) => existsSync(file))
}

function proxies(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const except = [env.no_proxy || env.NO_PROXY, NEVER_PROXIED].filter(Boolean).join(',')
  return { ...env, no_proxy: except, NO_PROXY: except }
}
