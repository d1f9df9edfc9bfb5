import { join } from 'node:path'
import { parseConfig } from '../config.ts'
import { refused } from '../errors.ts'
import type { ImageWorld } from '../image/world.ts'
import { emulatedPlatforms } from '../io/binfmt.ts'
import { BuildxBuilder } from '../io/buildx.ts'
import { DockerEngine } from '../io/docker.ts'
import { defaultBranch } from '../io/git-default-branch.ts'
import { Mirror } from '../io/mirror.ts'
import { HttpRegistry } from '../io/registry-http.ts'
import { RegistryLogins } from '../io/registry-logins.ts'
import { materialiseSecrets } from '../io/secrets.ts'
import { ssmParameters } from '../io/secrets-ssm.ts'
import { WorkTree } from '../io/work-tree.ts'
import type { WarmthBook } from '../jobs/warmth.ts'
import type { WorkerWatch } from '../jobs/worker-watch.ts'
import { sha256 } from '../names.ts'
import type { Leases } from './leases.ts'
import { defaultPlatform } from './project.ts'
import type { Settings } from './settings.ts'
import type { WorkerOptions } from './worker.ts'

export interface Incarnation {
  name: string
  dir: string
  leases: Leases
  settings: Settings
  watch: WorkerWatch
  warmth: WarmthBook
  room: ImageWorld['room']
}

/** Everything that an image job needs of this worker. */
export function imageWorld(options: WorkerOptions, me: Incarnation, mirrors: Map<string, Mirror>): ImageWorld {
  const { project, services, repositories } = options
  const trees = new Map<string, WorkTree>()
  const logins = new RegistryLogins()
  const parameters = ssmParameters(project.aws?.region)
  const slotDir = (slot: number) => join(me.dir, `slot-${slot}`)
  const fetchFrom = (repository: string): string => {
    const from = repositories.get(repository)
    if (from !== undefined) return from
    throw refused('repository_not_allowed', `this worker doesn't build ${repository}`, {
      next: `it builds: ${[...repositories.keys()].join(', ')}`,
      ids: { repository },
    })
  }
  const mirror = (repository: string): Mirror => {
    const id = sha256(repository).slice(0, 16)
    const made = mirrors.get(id) ?? new Mirror(join(project.stateDir, 'mirrors', id), { allowLocal: true })
    mirrors.set(id, made)
    return made
  }
  return {
    ledger: project.ledger,
    registry: new HttpRegistry({ credentials: logins.credentials }),
    engine: new DockerEngine(),
    // What is pushed is in the registry: a name per build in the engine would pile up.
    builder: ({ containerdStore, dataRoot }) => new BuildxBuilder({ containerdStore, dataRoot, keep: false, logins }),
    worker: me.name,
    leaseMs: me.settings.leaseMs,
    pollMs: project.pollMs,
    source(repository) {
      const from = fetchFrom(repository)
      const { objects } = mirror(repository)
      return {
        objects,
        fetch: (request) => mirror(repository).fetch({ ...request, source: from }),
        defaultBranch: () => defaultBranch(from, { allowLocal: true }),
      }
    },
    async checkout(repository, slot, commit, how) {
      fetchFrom(repository)
      const id = sha256(repository).slice(0, 16)
      const at = join(slotDir(slot), `tree-${id}`)
      const tree = trees.get(at) ?? new WorkTree({ mirror: mirror(repository), dir: at, index: `${at}.index` })
      trees.set(at, tree)
      await tree.move(commit, how)
      return at
    },
    slotDir,
    target: services.target,
    cache: services.cache,
    parseConfig,
    defaultPlatforms: [defaultPlatform(project)],
    secrets: { materialise: (ids) => materialiseSecrets(ids, { env: process.env, parameters }) },
    emulated: emulatedPlatforms,
    warmth: me.warmth,
    room: me.room,
    lease: () => me.leases.current,
    onProblem: options.onProblem,
    onRecord: (record, takenFrom) => me.watch.record(record, takenFrom),
    supersede: project.config.fleet.supersede ?? false,
    buildTimeoutMs: me.settings.buildTimeoutMs,
  }
}
