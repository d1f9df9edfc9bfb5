import { dirname, join, relative, resolve } from 'node:path'
import { isLocalRepository } from '../config/syntax.ts'
import { type AwsSettings, type Config, loadConfig, locateConfig } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import { Checkout } from '../io/git.ts'
import type { GitObjects } from '../io/git-objects.ts'
import type { Ledger } from '../io/ledger.ts'
import { DirectoryLedger } from '../io/ledger-directory.ts'
import { isLocalSource } from '../io/sources.ts'
import { machinePlatform } from '../platform-name.ts'
import type { Remote } from './without-checkout.ts'

/** On one machine the ledger is a directory: looking costs next to nothing. */
const LOCAL_POLL_MS = 10
/** Soon enough for a live log; a waiter then costs S3 four requests a second, some $0.006 an hour. */
const AWS_POLL_MS = 250

/** A project as found from where the command runs: bake.yaml, where its state is, its ledger. Opens no connection. */
export interface Project {
  config: Config
  /** Directory of bake.yaml; the current one when it comes from a repository without a checkout. */
  dir: string
  /** Set by BAKE_REPOSITORY: whatever checkout is around doesn't count. */
  remote?: Remote
  stateDir: string
  ledger: Ledger
  pollMs: number
  /** Set: queue, ledger and registry are on AWS, and there is no host process. */
  aws?: AwsSettings
}

/** Throws config_missing, config_invalid, bare_repository or repository_local: all exit 2; with BAKE_REPOSITORY also what fetching throws. */
export async function openProject(cwd = process.cwd()): Promise<Project> {
  const found = await find(cwd)
  const { config, stateDir } = found
  if (config.aws) return { ...found, ...(await awsLedger(config, config.aws)) }
  return { ...found, ledger: new DirectoryLedger(join(stateDir, 'ledger')), pollMs: LOCAL_POLL_MS }
}

async function find(cwd: string): Promise<Pick<Project, 'config' | 'dir' | 'stateDir' | 'remote'>> {
  const { BAKE_STATE_DIR, BAKE_CONFIG } = process.env
  const remote = await remoteOfEnvironment(cwd)
  if (remote && !BAKE_CONFIG) {
    const { readRemoteConfig } = await import('./without-checkout.ts')
    const stateDir = resolve(BAKE_STATE_DIR || join(cwd, '.bake'))
    return { config: await readRemoteConfig(remote, stateDir), dir: cwd, stateDir, remote }
  }
  const config = await loadConfig(await locateConfig(cwd).catch((error: unknown) => explainMissing(error, cwd)))
  const dir = dirname(resolve(config.file))
  return { config, dir, stateDir: resolve(BAKE_STATE_DIR || join(dir, '.bake')), ...(remote && { remote }) }
}

async function remoteOfEnvironment(cwd: string): Promise<Remote | undefined> {
  const { BAKE_REPOSITORY } = process.env
  return BAKE_REPOSITORY ? (await import('./without-checkout.ts')).remoteAt(BAKE_REPOSITORY, process.env, cwd) : undefined
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

/** The commits that a command may name: those of a checkout, or of a repository elsewhere. */
export interface Commits extends AsyncDisposable {
  readonly objects: GitObjects
  /** The full id of the one commit that was named, HEAD if none was. */
  resolve(what: { sha?: string; branch?: string; tag?: string }): Promise<{ commit: string; branch?: string }>
  changes(): Promise<string[]>
}

export interface ProjectRepository {
  checkout: Commits
  /** bake.yaml's path in it. */
  configPath: string
  /** As jobs name it. */
  repository: string
  /** Where a worker of this machine fetches it from. */
  source: string
}

/** The git repository around bake.yaml; where there is none, or BAKE_REPOSITORY names another, the repository itself. */
export async function openCheckout(project: Project, signal?: AbortSignal): Promise<ProjectRepository> {
  const { config, dir, stateDir, remote } = project
  const checkout = remote ? undefined : await Checkout.open(dir).catch((error: unknown) => unlessAlone(error, config))
  if (checkout) {
    const configPath = relative(checkout.root, resolve(config.file)).replaceAll('\\', '/')
    return { checkout, configPath, source: checkout.root, repository: config.repository ?? checkout.root }
  }
  const { openRemote, remoteAt } = await import('./without-checkout.ts')
  const { source, configPath } = remote ?? remoteAt(config.repository!, process.env, dir)
  return { checkout: await openRemote(source, stateDir, signal), configPath, source, repository: config.repository ?? source }
}

/** bake.yaml stands alone, as on a CI runner, and says where its repository is. */
function unlessAlone(error: unknown, config: Config): undefined {
  if (!(error instanceof BakeError && error.code === 'not_a_repository' && config.repository !== undefined)) throw error
}

/** The platform of an image that names none. It is part of the key, so in a fleet it can't be whatever each machine is. */
export const defaultPlatform = (project: Project): string => (project.aws ? 'linux/amd64' : machinePlatform())
