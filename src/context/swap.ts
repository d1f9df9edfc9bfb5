import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { referencesOf } from '../ami/images.ts'
import type { ImageReference } from '../ami/machine.ts'
import { resolveRelease } from '../ami/release.ts'
import { type Config, nearest, type ServiceDefinition } from '../config.ts'
import { type BakeError, errnoOf, refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import { downLocal, type Swapped, type SwapWorld, swapFailed, swapLocal } from '../fleet/swap-local.ts'
import { DockerContainers, localNetwork } from '../io/containers.ts'
import { tryLock } from '../io/host/lock.ts'
import { prepareStateDir } from '../io/host/state-dir.ts'
import { imageSource, lazyAsker } from './ami-images.ts'
import { openCheckout, openProject, type Project } from './project.ts'
import { stackNamed } from './stack.ts'

export interface SwapResult {
  done: { stack: string; commit: string; services: Swapped[] }
  /** When a service was not well: the others may run as asked. */
  failure?: BakeError
}

export interface SwapRequest {
  stack: string
  /** Names of images; none: all that services run. */
  images: string[]
  sha?: string
  branch?: string
  release?: string
  atomic: boolean
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

/**
 * `bake swap`: builds what is missing and replaces the containers of a stack. Throws unknown_stack, machine_missing, unknown_image, stack_busy or not_built
 * (exit 2) and what building throws; swap_failed (exit 3) is its `failure`.
 */
export async function swap(request: SwapRequest): Promise<SwapResult> {
  const { stack, emit, signal } = request
  const project = await openProject()
  const services = servicesOf(project.config, request)
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
  const swapped = await swapLocal(runnable, request, { ...held.world, emit, signal })
  const failure = swapFailed(stack, swapped)
  return { done: { stack, commit, services: swapped }, ...(failure && { failure }) }
}

/** `bake swap --down`: names of the containers that were removed. */
export async function swapDown(request: Pick<SwapRequest, 'stack'>): Promise<{ stack: string; removed: string[] }> {
  const project = await openProject()
  await using held = await stackOf(project, request)
  return { stack: request.stack, removed: await downLocal(held.world) }
}

function servicesOf({ machine, images }: Config, request: SwapRequest): ServiceDefinition[] {
  if (machine === undefined || machine.services.length === 0)
    throw refused('machine_missing', 'bake.yaml has no machine.services: a stack runs these', {
      next: 'docs/bake-yaml.md, machine',
    })
  const names = images.map(({ name }) => name)
  for (const image of request.images) {
    if (machine.services.some((service) => service.image === image)) continue
    const near = nearest(image, names)
    throw refused('unknown_image', `no service runs an image ${image}${near === undefined ? '' : ` (did you mean ${near}?)`}`, {
      next: `services run ${[...new Set(machine.services.map((service) => service.image))].join(', ')}`,
    })
  }
  return machine.services.filter(({ image }) => request.images.length === 0 || request.images.includes(image))
}

type StackWorld = Omit<SwapWorld, 'emit' | 'signal'>

/** The stack, with its lock: one swap of it at a time. */
async function stackOf(
  { config, stateDir }: Project,
  { stack: name }: Pick<SwapRequest, 'stack'>,
): Promise<{ world: StackWorld } & AsyncDisposable> {
  const stack = stackNamed(config, name)
  if (!('local' in stack.where))
    throw refused('not_built', `stack ${name} is on AWS, where bake swaps nothing yet`, {
      next: 'a stack with local: true can be swapped',
    })
  if (stack.swappable === false)
    throw refused('not_swappable', `stack ${name} is not to be swapped`, {
      next: `swappable: true in stacks.${name} of bake.yaml allows it`,
    })
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

interface Sources {
  project: Project
  checkout: Awaited<ReturnType<typeof openCheckout>>['checkout']
  asker: ReturnType<typeof lazyAsker>
}

async function imagesOf(
  services: ServiceDefinition[],
  { project, checkout, asker }: Sources,
  request: SwapRequest,
): Promise<{ commit: string; references: ImageReference[] }> {
  const { sha, branch, release, signal } = request
  const names = [...new Set(services.map(({ image }) => image))]
  if (release !== undefined) {
    const { commit, recorded } = await resolveRelease({ release }, checkout, project.ledger)
    if (recorded && names.every((name) => recorded.images.some(({ image }) => image === name))) {
      // What isn't in the engine is pulled from this project's own registry.
      await asker.open()
      return { commit, references: recorded.images }
    }
    return { commit, references: await built(commit, names, asker, request) }
  }
  const { commit } = await checkout.resolve({ ...(sha !== undefined && { sha }), ...(branch !== undefined && { branch }) })
  signal.throwIfAborted()
  return { commit, references: await built(commit, names, asker, request) }
}

const built = async (commit: string, names: string[], asker: Sources['asker'], request: SwapRequest) =>
  referencesOf(await imageSource(asker, request).ensure(commit, names, async () => {}))
