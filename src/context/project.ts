import { dirname, join, relative, resolve } from 'node:path'
import { type Config, findConfig, loadConfig } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import { Checkout } from '../io/git.ts'
import type { Ledger } from '../io/ledger.ts'
import { DirectoryLedger } from '../io/ledger-directory.ts'

/** On one machine the ledger is a directory: looking costs next to nothing. */
const LOCAL_POLL_MS = 10

/** A project as found from where the command runs: bake.yaml, where its state is, its ledger. Opens no connection. */
export interface Project {
  config: Config
  /** Directory of bake.yaml. */
  dir: string
  stateDir: string
  ledger: Ledger
  pollMs: number
}

/** Throws config_missing, config_invalid, bare_repository, or not_built for settings that no code serves yet: all exit 2. */
export async function openProject(cwd = process.cwd()): Promise<Project> {
  const config = await loadConfig(await findConfig(cwd).catch((error: unknown) => explainMissing(error, cwd)))
  if (config.aws) {
    throw refused('not_built', `${config.file} has aws:, and this version of bake works on one machine only`, {
      next: 'leave aws: out for now',
      ids: { config: config.file },
    })
  }
  const dir = dirname(resolve(config.file))
  const stateDir = resolve(process.env.BAKE_STATE_DIR || join(dir, '.bake'))
  return { config, dir, stateDir, ledger: new DirectoryLedger(join(stateDir, 'ledger')), pollMs: LOCAL_POLL_MS }
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

/** BuildKit's name of this machine's platform. */
export const machinePlatform = (): string => `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
