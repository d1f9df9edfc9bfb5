import type { BakeWorld } from '../ami/world.ts'
import { parseConfig } from '../config.ts'
import type { Emit, MachineEvent } from '../events.ts'
import { HttpRegistry } from '../io/registry-http.ts'
import { openBase } from './ami-base.ts'
import { imageSource, lazyAsker } from './ami-images.ts'
import { openShelf } from './ami-shelf.ts'
import { openBaker, openProver } from './ami-tools.ts'
import { defaultPlatform, openCheckout, type Project } from './project.ts'
import { readSettings } from './settings.ts'
import { hasEnded, thisProcess, whoami } from './whoami.ts'

export interface BakeRequest {
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

/**
 * Everything for `bake ami` and its relatives. Host process, registry, AWS and tools are reached by the first call that needs them: what is baked already
 * needs none of them.
 */
export async function openBakeWorld(project: Project, request: BakeRequest): Promise<BakeWorld & AsyncDisposable> {
  const { emit, signal } = request
  const tell = (event: MachineEvent) => emit({ type: 'machine', event })
  const { leaseMs } = readSettings()
  const repository = await openCheckout(project, signal)
  const { checkout, configPath } = repository
  const asker = lazyAsker(project, repository, request)
  const shelf = (kind: 'disk' | 'ami') => openShelf(kind, project)
  return {
    ledger: project.ledger,
    stateDir: project.stateDir,
    commits: checkout,
    objects: checkout.objects,
    configPath,
    parseConfig,
    defaultPlatform: defaultPlatform(project),
    images: imageSource(asker, request),
    async registry() {
      // On one machine it is the host process's.
      await asker.open()
      return new HttpRegistry()
    },
    base: (definition) => openBase(definition, project, { signal, tell }),
    async render(plan, templates) {
      const { renderMachine } = await import('../ami/render.ts')
      return renderMachine(plan, templates)
    },
    baker: (definition) => openBaker(definition, project),
    prover: (kind) => openProver(kind, project),
    shelf,
    has: async (baked) => (await shelf(baked.kind)).has(baked),
    by: whoami(),
    process: thisProcess(),
    ended: hasEnded,
    leaseMs,
    pollMs: project.pollMs,
    signal,
    tell,
    async [Symbol.asyncDispose]() {
      await asker[Symbol.asyncDispose]()
      await checkout[Symbol.asyncDispose]()
    },
  }
}
