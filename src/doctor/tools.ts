import { errnoOf } from '../errors.ts'
import { failedWith, newerThan, ok, skipped, warning } from './finding.ts'
import type { Check } from './types.ts'

/** Programs that bake runs on and with. */

const node: Check = {
  id: 'node',
  async run({ nodeVersion }) {
    return newerThan(nodeVersion, [24])
      ? ok(nodeVersion)
      : failedWith(
          `${nodeVersion} is too old: 24 or newer is needed`,
          'run bake through bin/bake, which finds its own Node, or install Node 24',
        )
  },
}

const git: Check = {
  id: 'git',
  async run(world) {
    let version: string | undefined
    try {
      version = await world.gitVersion()
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      return failedWith('not installed', 'Debian and Ubuntu: apt-get install git; macOS: brew install git')
    }
    if (version === undefined) return warning('its version is unknown', 'git --version')
    return newerThan(version, [2, 29])
      ? ok(version)
      : failedWith(
          `${version} is too old: 2.29 or newer is needed`,
          'Debian: apt-get install -t bookworm-backports git; macOS: brew install git',
        )
  },
}

const buildx: Check = {
  id: 'buildx',
  async run(world) {
    const fix = 'bin/setup installs it on Debian and Ubuntu; elsewhere: https://github.com/docker/buildx#installing'
    const found = await world.buildx()
    if (found === undefined) return failedWith('the docker-buildx plugin is not installed', fix)
    return newerThan(found.version, [0, 13])
      ? ok(`${found.version}, ${found.path}`)
      : failedWith(`${found.version} (${found.path}) is too old: 0.13 or newer is needed`, fix)
  },
}

const parentDeath: Check = {
  id: 'setpriv',
  async run(world) {
    if (!world.linux) return skipped('Linux only')
    const path = world.which('setpriv')
    return path === undefined
      ? warning('not installed: a build may outlive a worker that is killed', 'Debian and Ubuntu: apt-get install util-linux')
      : ok(path)
  },
}

export const toolChecks: Check[] = [node, git, buildx, parentDeath]
