import type { Config } from '../config.ts'
import { BakeError, errnoOf, messageOf } from '../errors.ts'
import { failedWith, ok, skipped, warning } from './finding.ts'
import type { Check, DoctorWorld, Finding } from './types.ts'

/** bake.yaml, and what it asks for. */

const config: Check = {
  id: 'config',
  async run(world) {
    try {
      const { file, images } = await world.config()
      return ok(`${file}, ${images.length} image${images.length === 1 ? '' : 's'}`)
    } catch (error) {
      if (!(error instanceof BakeError)) throw error
      return {
        status: error.code === 'config_missing' ? 'warning' : 'failed',
        detail: error.message,
        ...(error.next === undefined ? {} : { fix: error.next }),
      }
    }
  },
}

const repository: Check = {
  id: 'git_repository',
  async run(world) {
    const required = (await world.config().catch(() => undefined)) !== undefined
    try {
      const [bare, inside] = (await world.git('rev-parse', '--is-bare-repository', '--is-inside-work-tree')).split('\n')
      if (bare === 'true' || inside !== 'true')
        return failedWith('this is a bare repository, without files to build from', 'run bake in a clone with a work tree')
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return skipped('git is not installed')
      if (/dubious ownership/.test(messageOf(error)))
        return failedWith(
          'it belongs to somebody else, so git does not read it',
          `git config --global --add safe.directory ${process.cwd()}`,
        )
      const missing = { detail: 'this is not a git repository', fix: 'git init && git add . && git commit' }
      return { status: required ? 'failed' : 'warning', ...missing }
    }
    return world.git('rev-parse', '--verify', '--quiet', 'HEAD^{commit}').then(
      (commit) => ok(`HEAD is ${commit.slice(0, 12)}`),
      () => warning('it has no commit yet', 'git add . && git commit'),
    )
  },
}

const registry: Check = {
  id: 'registry',
  run: (world, signal) =>
    withConfig(world, async (found) => {
      if (found.registry === undefined) return skipped("none in bake.yaml: this machine's own is used")
      try {
        await world.registryHead(`${found.registry}/${found.images[0]!.name}:bake-doctor`, signal)
        return ok(`${found.registry} answers`)
      } catch (error) {
        // Many registries say "denied" of a repository that the first push would create.
        if (error instanceof BakeError && error.code === 'registry_denied')
          return warning(error.message, error.next ?? `docker login ${found.registry.split('/')[0]}`)
        throw error
      }
    }),
}

const emulation: Check = {
  id: 'emulation',
  run: (world) =>
    withConfig(world, async (found) => {
      const foreign = [...new Set(found.images.flatMap((image) => image.platforms))].filter(
        (platform) => platform !== world.platform && !platform.startsWith(`${world.platform}/`),
      )
      if (foreign.length === 0) return skipped(`no platform but ${world.platform} in bake.yaml`)
      const host = await world.engineHost()
      if (!host.startsWith('unix://')) return skipped(`the engine is elsewhere (${host})`)
      const emulated = await world.emulated()
      const lacking = foreign.filter((platform) => !emulated.some((runs) => runs === platform || sameFamily(runs, platform)))
      if (lacking.length === 0) return ok(foreign.join(', '))
      return warning(
        `${lacking.join(', ')}: no emulator, so stages that RUN something can't be built for it`,
        'Debian and Ubuntu: apt-get install qemu-user-static binfmt-support; elsewhere: docker run --privileged --rm tonistiigi/binfmt --install all',
      )
    }),
}

/** One emulator runs all variants of a processor. */
const sameFamily = (a: string, b: string): boolean => a.split('/').slice(0, 2).join('/') === b.split('/').slice(0, 2).join('/')

const secrets: Check = {
  id: 'secrets',
  run: (world) =>
    withConfig(world, async (found) => {
      const ids = [
        ...new Set(found.images.flatMap((image) => image.secrets.filter(({ ssm }) => ssm === undefined).map(({ id }) => id))),
      ]
      const agent = found.images.some((image) => image.ssh.length > 0) && !world.hasAgent
      if (ids.length === 0 && !agent) return skipped('bake.yaml asks for none')
      const has = await Promise.all(ids.map((id) => world.hasSecret(id)))
      const unset = ids.filter((_, at) => !has[at])
      if (unset.length === 0 && !agent) return ok(`${ids.length} set`)
      const lacking = [...unset.map((id) => `${id} is not set here`), ...(agent ? ['no ssh agent here'] : [])]
      return warning(
        lacking.join(', '),
        'where the worker runs: set BAKE_SECRET_<ID>, or put a file <id> into BAKE_SECRETS_DIR; for ssh: eval "$(ssh-agent)" && ssh-add',
      )
    }),
}

/** Skips what a valid bake.yaml is needed for: what is wrong with it is told once, by `config`. */
async function withConfig(world: DoctorWorld, check: (config: Config) => Promise<Finding>): Promise<Finding> {
  const found = await world.config().catch(() => undefined)
  return found === undefined ? skipped('no valid bake.yaml') : check(found)
}

export const projectChecks: Check[] = [config, repository, registry, emulation, secrets]
