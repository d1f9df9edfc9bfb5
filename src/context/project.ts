import { dirname, join, relative, resolve } from 'node:path'
import { isLocalRepository } from '../config/syntax.ts'
import { type AwsSettings, type Config, findConfig, loadConfig } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import { Checkout } from '../io/git.ts'
import type { Ledger } from '../io/ledger.ts'
import { DirectoryLedger } from '../io/ledger-directory.ts'
import { isLocalSource } from '../io/sources.ts'

/** On one machine the ledger is a directory: looking costs next to nothing. */
const LOCAL_POLL_MS = 10
/** Soon enough for a live log; a waiter then costs S3 four requests a second, some $0.006 an hour. */
const AWS_POLL_MS = 250

/** A project as found from where the command runs: bake.yaml, where its state is, its ledger. Opens no connection. */
export interface Project {
  config: Config
  /** Directory of bake.yaml. */
  dir: string
  stateDir: string
  ledger: Ledger
  pollMs: number
  /** Set: queue, ledger and registry are on AWS, and there is no host process. */
  aws?: AwsSettings
}

/** Throws config_missing, config_invalid, bare_repository or repository_local: all exit 2. */
export async function openProject(cwd = process.cwd()): Promise<Project> {
  const config = await loadConfig(await findConfig(cwd).catch((error: unknown) => explainMissing(error, cwd)))
  const dir = dirname(resolve(config.file))
  const stateDir = resolve(process.env.BAKE_STATE_DIR || join(dir, '.bake'))
  const found = { config, dir, stateDir }
  if (config.aws) return { ...found, ...(await awsLedger(config, config.aws)) }
  return { ...found, ledger: new DirectoryLedger(join(stateDir, 'ledger')), pollMs: LOCAL_POLL_MS }
}

async function awsLedger(config: Config, aws: AwsSettings): Promise<Pick<Project, 'ledger' | 'pollMs' | 'aws'>> {
  const { repository = '' } = config
  if (isLocalRepository(repository) || isLocalSource(repository)) {
    if (!(emulated() && isLocalSource(repository)))
      throw refused(
        'repository_local',
        `repository: ${repository} is a path on this machine, which workers on AWS cannot fetch from`,
        {
          next: `give repository: in ${config.file} an https:// or ssh URL`,
          ids: { config: config.file },
        },
      )
  }
  const { S3Ledger } = await import('../io/ledger-s3.ts')
  const prefix = config.fleet.prefix
  const ledger = new S3Ledger({ region: aws.region, bucket: aws.bucket, ...(prefix === undefined ? {} : { prefix }) })
  return { ledger, pollMs: AWS_POLL_MS, aws }
}

/** An emulator of AWS on this machine: then the workers are here too. */
const emulated = (): boolean => {
  const endpoint = URL.parse(process.env.AWS_ENDPOINT_URL ?? '')
  return endpoint !== null && ['127.0.0.1', 'localhost', '[::1]'].includes(endpoint.hostname)
}

/** In a bare repository no bake.yaml can be found, and `bake init` would be the wrong advice. */
async function explainMissing(error: unknown, cwd: string): Promise<never> {
  const checkout = await Checkout.open(cwd).catch((why: unknown) => {
    throw why instanceof BakeError && why.code === 'bare_repository' ? why : error
  })
  await checkout.close()
  throw error
}

/** The git repository around bake.yaml, and bake.yaml's path in it. */
export async function openCheckout(project: Project): Promise<{ checkout: Checkout; configPath: string; repository: string }> {
  const checkout = await Checkout.open(project.dir)
  const configPath = relative(checkout.root, resolve(project.config.file)).replaceAll('\\', '/')
  return { checkout, configPath, repository: project.config.repository ?? checkout.root }
}

/** The platform of an image that names none. It is part of the key, so in a fleet it can't be whatever each machine is. */
export const defaultPlatform = (project: Project): string => (project.aws ? 'linux/amd64' : machinePlatform())

/** BuildKit's name of this machine's platform. */
export const machinePlatform = (): string => `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
