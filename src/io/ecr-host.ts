import { refused } from '../errors.ts'

/** A private registry of Amazon ECR, as its host name tells. */
export interface EcrRegistry {
  /** 12 digits. */
  account: string
  region: string
  /** The host is a FIPS endpoint; its tokens come from one, too. */
  fips: boolean
}

/** Source: https://github.com/awslabs/amazon-ecr-credential-helper/blob/main/ecr-login/api/client.go (`ecrPattern`), the public partitions. */
const AWS =
  /^(\d{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9][a-z0-9-]*)\.(?:amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.com\.cn))$/
/** Emulators put their own host behind the same labels: 000000000000.dkr.ecr.us-east-1.localhost.localstack.cloud:4566 */
const EMULATED = /^(\d{12})\.dkr\.ecr\.([a-z0-9][a-z0-9-]*)\.([a-z0-9.-]+?)(?::\d+)?$/
const EMULATOR_HOSTS = ['localhost', 'localhost.localstack.cloud']
const OVERRIDE = /^([A-Za-z0-9[][A-Za-z0-9.:\]-]*)=(\d{12})@([a-z0-9-]+)$/

/**
 * The ECR registry behind `host` (with its port); undefined for every other registry. An emulator's host counts only while AWS_ENDPOINT_URL or
 * AWS_ENDPOINT_URL_ECR says that there is one: nobody else's host may get a token of the real ECR. `BAKE_ECR_REGISTRIES` (`host[:port]=account@region`,
 * commas between several) names hosts that stand for ECR under another name: a proxy, or a plain registry beside an emulator that has no blobs.
 */
export function ecrRegistry(host: string, env: NodeJS.ProcessEnv): EcrRegistry | undefined {
  const [, account, fips, region] = AWS.exec(host) ?? []
  if (account !== undefined && region !== undefined) return { account, region, fips: fips !== undefined }
  return overrides(env).get(host) ?? emulated(host, env)
}

function emulated(host: string, env: NodeJS.ProcessEnv): EcrRegistry | undefined {
  const endpoint = URL.parse(env.AWS_ENDPOINT_URL_ECR || env.AWS_ENDPOINT_URL || '')
  if (endpoint === null) return undefined
  const [, account, region, domain] = EMULATED.exec(host) ?? []
  if (account === undefined || region === undefined || domain === undefined) return undefined
  return [...EMULATOR_HOSTS, endpoint.hostname].includes(domain) ? { account, region, fips: false } : undefined
}

/** Throws bad_setting (exit 2) for a BAKE_ECR_REGISTRIES that can't be read. */
export function checkOverrides(env: NodeJS.ProcessEnv): void {
  overrides(env)
}

function overrides(env: NodeJS.ProcessEnv): Map<string, EcrRegistry> {
  const words = (env.BAKE_ECR_REGISTRIES ?? '').split(',').map((word) => word.trim())
  return new Map(
    words
      .filter((word) => word !== '')
      .map((word) => {
        const [, host, account, region] = OVERRIDE.exec(word) ?? []
        if (host !== undefined && account !== undefined && region !== undefined) return [host, { account, region, fips: false }]
        throw refused('bad_setting', `BAKE_ECR_REGISTRIES has ${JSON.stringify(word)}, which is not host[:port]=account@region`, {
          next: 'write for example BAKE_ECR_REGISTRIES=127.0.0.1:5000=123456789012@us-east-1, or unset it',
        })
      }),
  )
}

/** The hosts of ECR registries that stand anywhere in `texts`: references, Dockerfiles. */
export function ecrHosts(texts: string[], env: NodeJS.ProcessEnv): string[] {
  // Words of the grammar of hosts that a slash follows, as in every reference with a host.
  const words = texts.flatMap((text) => [...text.matchAll(/[A-Za-z0-9[][A-Za-z0-9.:\]-]*(?=\/)/g)].map(([word]) => word))
  return [...new Set(words)].filter((word) => ecrRegistry(word, env) !== undefined)
}
