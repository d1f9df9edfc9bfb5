import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BakeError, errnoOf, refused } from '../errors.ts'
import { downLocal, type Swapped, type SwapWorld, swapFailed, swapLocal } from '../fleet/swap-local.ts'
import type { StackSwapped } from '../fleet/swap-stack.ts'
import { DockerContainers, localNetwork } from '../io/containers.ts'
import { tryLock } from '../io/host/lock.ts'
import { prepareStateDir } from '../io/host/state-dir.ts'
import { assertTools } from '../io/machine-tools.ts'
import { lazyAsker } from './ami-images.ts'
import { openCheckout, openProject, type Project } from './project.ts'
import { notSwappable, stackNamed } from './stack.ts'
import { imagesOf, type SwapRequest, servicesOf } from './swap-images.ts'
import { swapOnAws } from './swap-stack.ts'

export interface SwapResult {
  done: { stack: string; commit: string } & ({ services: Swapped[] } | StackSwapped)
  /** When a service was not well: the others may run as asked. */
  failure?: BakeError
}

/**
 * `bake swap`: builds what is missing and replaces the containers of a stack. Throws unknown_stack, machine_missing, unknown_image, stack_busy or not_built
 * (exit 2), tool_missing (exit 4) and what building throws; swap_failed (exit 3) is its `failure`.
 */
export async function swap(request: SwapRequest): Promise<SwapResult> {
  const { stack, emit, signal } = request
  const project = await openProject()
  const definition = stackNamed(project.config, stack)
  const services = servicesOf(project.config, request)
  if (!('local' in definition.where)) return await swapOnAws(project, definition, services, request)
  // Before anything is built: what starts and pulls is the command line.
  assertTools(['docker'])
  await using held = await stackOf(project, request)
  const repository = await openCheckout(project, signal)
  await using checkout = repository.checkout
  await using asker = lazyAsker(project, repository, request)
  const { commit, references } = await imagesOf(services, { project, checkout, asker }, request)
  const runnable = services.map((service) => ({
    ...service,
    reference: references.find(({ image }) => image === service.image)!,
  }))
  for (const { name, envFrom } of services)
    if (envFrom.length > 0)
      emit({ type: 'notice', level: 'info', text: `${name}  env_from is not read on this machine: proof.env stands in` })
  // Only who swaps all of it sees what is no part of it any more.
  const known = request.images.length === 0 ? { known: services.map(({ name }) => name) } : {}
  const swapped = await swapLocal(runnable, { atomic: request.atomic, ...known }, { ...held.world, emit, signal })
  const failure = swapFailed(stack, swapped)
  return { done: { stack, commit, services: swapped }, ...(failure && { failure }) }
}

/** `bake swap --down`: names of the containers that were removed. */
export async function swapDown(request: Pick<SwapRequest, 'stack'>): Promise<{ stack: string; removed: string[] }> {
  const project = await openProject()
  await using held = await stackOf(project, request)
  return { stack: request.stack, removed: await downLocal(held.world) }
}

type StackWorld = Omit<SwapWorld, 'emit' | 'signal'>

/** The stack, with its lock: one swap of it at a time. */
async function stackOf(
  { config, stateDir }: Project,
  { stack: name }: Pick<SwapRequest, 'stack'>,
): Promise<{ world: StackWorld } & AsyncDisposable> {
  const stack = stackNamed(config, name)
  if (!('local' in stack.where))
    throw refused('stack_not_local', `stack ${name} is on AWS: its services go with its instances`, {
      next: 'only stacks with local: true have containers on this machine',
    })
  if (stack.swappable === false) throw notSwappable(name)
  await prepareStateDir(stateDir)
  const lock = await tryLock(join(stateDir, `stack-${name}.lock`))
  if (lock === undefined)
    throw refused('stack_busy', `another bake swaps stack ${name} now`, {
      next: 'wait for it, then swap again',
      ids: { stack: name },
    })
  return {
    world: {
      project: config.project,
      stack: name,
      containers: new DockerContainers(),
      network: localNetwork,
      read: (path) =>
        readFile(path, 'utf8').catch((error: unknown) => {
          if (errnoOf(error) === 'ENOENT') return undefined
          throw error
        }),
      now: () => Date.now(),
      sleep: (ms, signal) => sleep(ms, undefined, { signal }),
    },
    async [Symbol.asyncDispose]() {
      lock.release()
    },
  }
}
