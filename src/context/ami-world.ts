import type { AskMachineWorld } from '../ami/ask.ts'
import type { Baker } from '../ami/machine.ts'
import { parseConfig } from '../config.ts'
import type { Emit, MachineEvent } from '../events.ts'
import { HttpRegistry } from '../io/registry-http.ts'
import { openDiskBase } from './ami-base.ts'
import { imageSource, lazyAsker } from './ami-images.ts'
import { openShelves } from './ami-shelf.ts'
import { openBaker, openDiskProver } from './ami-tools.ts'
import { defaultPlatform, openCheckout, type Project, type ProjectRepository } from './project.ts'
import { readSettings } from './settings.ts'
import { hasEnded, thisProcess, whoami } from './whoami.ts'

export interface BakeRequest {
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
  /** The newest AMI that machine.base names, from now on. */
  refreshBase?: boolean
  /** The AMI that machine.base stands for, as whoever asked found it. */
  base?: string
  /** --baker: instead of machine.baker, and without a say in what is baked. */
  baker?: Baker['name'] | undefined
  explain?: boolean
}

/**
 * Everything for `bake ami` and its relatives. Host process, registry, AWS and tools are reached by the first call that needs them: what is baked already
 * needs none of them but, for an AMI, EC2's word that it is there. `given`: the repository, where that isn't the one around bake.yaml.
 */
export async function openBakeWorld(
  project: Project,
  request: BakeRequest,
  given?: ProjectRepository,
): Promise<AskMachineWorld & AsyncDisposable> {
  const { emit, signal, refreshBase = false, base: baseId } = request
  const tell = (event: MachineEvent) => emit({ type: 'machine', event })
  const { leaseMs } = readSettings()
  const repository = given ?? (await openCheckout(project, signal))
  const { checkout, configPath } = repository
  let onAws = false
  const asker = lazyAsker(project, repository, request)
  const { aws, shelf, has, [Symbol.asyncDispose]: closeAws } = openShelves(project, { signal, tell })
  return {
    ledger: project.ledger,
    stateDir: project.stateDir,
    commits: checkout,
    objects: checkout.objects,
    configPath,
    project: project.config.project,
    repository: repository.repository,
    manner: { ...(request.baker && { baker: request.baker }), ...(request.explain && { explain: true }) },
    queue: { shards: 1, send: async (...job) => (await asker.open()).world.queue.send(...job) },
    parseConfig,
    defaultPlatform: defaultPlatform(project),
    images: imageSource(asker, request),
    async registry() {
      // On one machine it is the host process's.
      await asker.open()
      return new HttpRegistry()
    },
    async base({ base }) {
      if ('disk' in base) return openDiskBase(base.disk, project, { signal, tell })
      onAws = true
      return (await aws()).findBase(base.ami, { refresh: refreshBase, ...(baseId !== undefined && { id: baseId }) })
    },
    async keepBase() {
      if (onAws) await (await aws()).keepBase()
    },
    async render(plan, templates) {
      const { renderMachine } = await import('../ami/render.ts')
      return renderMachine(plan, templates)
    },
    baker: (definition) => openBaker(definition, project, aws, request),
    prover: async (kind) => (kind === 'disk' ? openDiskProver(project) : (await aws()).prover()),
    shelf,
    has,
    async check(plan, baker, verify) {
      if (plan.base.kind === 'ami') await (await aws()).check(plan, baker, verify)
    },
    async launch(plan, baked, makeDefault) {
      return baked.kind === 'ami' ? (await aws()).launch(plan, baked, makeDefault) : undefined
    },
    by: whoami(),
    process: thisProcess(),
    ended: hasEnded,
    leaseMs,
    pollMs: project.pollMs,
    signal,
    tell,
    async [Symbol.asyncDispose]() {
      await asker[Symbol.asyncDispose]()
      await closeAws()
      await checkout[Symbol.asyncDispose]()
    },
  }
}
