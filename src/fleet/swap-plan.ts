import { isDeepStrictEqual } from 'node:util'
import { refused } from '../errors.ts'
import { SWAP_DOCUMENT, swapDocument } from '../swap-document.ts'
import type { StackInstance, SwapStackWorld } from './swap-world.ts'

/** A service and what it is to run. */
export interface Wanted {
  service: string
  image: string
  /** `<repository>@sha256:<hex>` */
  reference: string
  digest: string
  /** Processors that the image is built for, in EC2's words; none: bake.yaml doesn't say, and it is the workers' own. */
  architectures: string[]
}

/** An instance may take this long to start its agent; it reads the stack's record by itself by then. */
const STARTING_MS = 5 * 60_000

export interface Members {
  /** Those that are asked. */
  ready: StackInstance[]
  /** They start, and run what the record says once they do. */
  starting: StackInstance[]
}

/**
 * Instances of the stack that run. Throws no_instances or agent_missing (exit 2).
 */
export async function membersOf(world: SwapStackWorld): Promise<Members> {
  const { stack } = world
  const running = (await world.instances())
    .filter(({ state }) => state === 'running' || state === 'pending')
    .sort((a, b) => (a.id < b.id ? -1 : 1))
  if (running.length === 0)
    throw refused('no_instances', `stack ${stack} has no running instance`, {
      next: `bake stacks    shows what there is; stacks.${stack} in bake.yaml says which instances are meant`,
      ids: { stack },
    })
  const online = await world.commands.online(running.map(({ id }) => id))
  const silent = running.filter(({ id }) => !online.has(id))
  const starting = silent.filter(({ startedAt }) => world.now() - startedAt < STARTING_MS)
  const missing = silent.filter((instance) => !starting.includes(instance))
  if (missing.length > 0)
    throw refused(
      'agent_missing',
      `Systems Manager has no agent on ${missing.map(({ id }) => id).join(', ')} of stack ${stack}`,
      {
        next: 'install amazon-ssm-agent in the base image, and give the instances a role with AmazonSSMManagedInstanceCore (docs/swap.md)',
        ids: { stack },
      },
    )
  const ready = running.filter(({ id }) => online.has(id))
  if (ready.length === 0)
    throw refused('no_instances', `all instances of stack ${stack} are still starting`, {
      next: 'try again in a minute',
      ids: { stack },
    })
  return { ready, starting }
}

/** Throws wrong_architecture (exit 2) when an image isn't built for an instance's processor. */
export function checkArchitectures(wanted: Wanted[], instances: StackInstance[]): void {
  for (const { image, architectures } of wanted) {
    if (architectures.length === 0) continue
    const other = instances.find(({ architecture }) => !architectures.includes(architecture))
    if (other)
      throw refused(
        'wrong_architecture',
        `image ${image} is built for ${architectures.join(' and ')}, and ${other.id} is ${other.architecture}`,
        {
          next: `add linux/${other.architecture === 'arm64' ? 'arm64' : 'amd64'} to images.${image}.platforms in bake.yaml`,
          ids: { image, instance: other.id },
        },
      )
  }
}

/** The version of bake's document that is to run. Throws document_missing or document_altered (exit 2). */
export async function checkDocument({ documents }: Pick<SwapStackWorld, 'documents'>): Promise<string> {
  const found = await documents.get(SWAP_DOCUMENT)
  if (found === undefined)
    throw refused('document_missing', `Systems Manager has no document ${SWAP_DOCUMENT}`, { next: 'bake setup    makes it' })
  if (!isDeepStrictEqual(found.content, swapDocument))
    throw refused('document_altered', `document ${SWAP_DOCUMENT} (version ${found.version}) is not what this bake wrote`, {
      next: 'bake setup    shows the difference and sets it right; a colleague may have a newer bake',
    })
  return found.version
}
