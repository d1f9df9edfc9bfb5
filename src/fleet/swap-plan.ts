import { isDeepStrictEqual } from 'node:util'
import { refused } from '../errors.ts'
import { SWAP_DOCUMENT, swapDocument } from '../swap-document.ts'
import type { SwapStackWorld } from './swap-world.ts'

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
  ready: string[]
  /** They start, and run what the record says once they do. */
  starting: string[]
}

/** Instances of the stack that run. Throws no_instances or agent_missing (exit 2). */
export async function membersOf(world: SwapStackWorld): Promise<Members> {
  const { stack } = world
  const all = (await world.instances()).sort()
  const online = all.length === 0 ? new Set<string>() : await world.commands.online(all)
  const ready = all.filter((id) => online.has(id))
  const silent = ready.length === all.length ? [] : await world.describe(all.filter((id) => !online.has(id)))
  const up = silent.filter(({ state }) => state === 'running' || state === 'pending')
  const starting = up.filter(({ startedAt }) => world.now() - startedAt < STARTING_MS).map(({ id }) => id)
  const missing = up.map(({ id }) => id).filter((id) => !starting.includes(id))
  if (missing.length > 0)
    throw refused('agent_missing', `Systems Manager has no agent on ${missing.join(', ')} of stack ${stack}`, {
      next: 'install amazon-ssm-agent in the base image, and give the instances a role with AmazonSSMManagedInstanceCore (docs/swap.md)',
      ids: { stack },
    })
  if (ready.length > 0) return { ready, starting }
  const none = starting.length === 0
  throw refused(
    'no_instances',
    none ? `stack ${stack} has no running instance` : `all instances of stack ${stack} are still starting`,
    {
      next: none
        ? `bake stacks    shows what there is; stacks.${stack} in bake.yaml says which instances are meant`
        : 'try again in a minute',
      ids: { stack },
    },
  )
}

/** Throws wrong_architecture (exit 2) when an image isn't built for an instance's processor. */
export async function checkArchitectures(wanted: Wanted[], instances: string[], world: SwapStackWorld): Promise<void> {
  const picky = wanted.filter(({ architectures }) => architectures.length > 0)
  if (picky.length === 0) return
  const described = await world.describe(instances)
  for (const { image, architectures } of picky) {
    const other = described.find(({ architecture }) => !architectures.includes(architecture))
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
