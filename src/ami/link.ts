import { read } from '../jobs/records.ts'
import { keys } from '../names.ts'
import type { Pinned } from './images.ts'
import type { ImageReference, UnrenderedPlan } from './machine.ts'
import { type LaunchVersion, nameOf, type ReleaseDocument, type ReleaseMachine, releaseMachineSchema } from './records.ts'
import type { Machine } from './turn.ts'
import type { BakeWorld } from './world.ts'

/** What a release is recorded as. */
export const releaseDocument = ({ release, project }: UnrenderedPlan, { images, standIns }: Pinned): ReleaseDocument => ({
  version: 1,
  name: release.name,
  project,
  commit: release.commit,
  createdAt: Date.now(),
  images,
  standIns,
})

/** Whether two name the same images by the same digests. */
export function sameImages(one: Pinned, other: Pinned): boolean {
  const text = ({ images, standIns }: Pinned) =>
    [images, standIns]
      .map((all) =>
        all
          .map(({ image, repository, digest }: ImageReference) => `${image} ${repository}@${digest}`)
          .sort()
          .join('\n'),
      )
      .join('\n\n')
  return text(one) === text(other)
}

/**
 * Notes under which inputs hash a release was baked, or found, and on AWS with which version of the launch template: `bake release`, `bake deploy` and
 * `bake prune` go by it. What is noted already isn't made again, unless it is to become the default.
 */
export async function linkRelease(
  plan: UnrenderedPlan,
  machine: Machine,
  { makeDefault = false }: { makeDefault?: boolean },
  world: Pick<BakeWorld, 'ledger' | 'launch'>,
): Promise<LaunchVersion | undefined> {
  const { release, inputs } = plan
  const at = keys.releaseMachine(release.name, inputs)
  const image = nameOf(machine.baked)
  const known = await read(world.ledger, at, releaseMachineSchema).catch(() => undefined)
  if (known?.image === image && !makeDefault && (known.launch || !world.launch)) return known.launch
  const launch = await world.launch?.(plan, machine.baked, makeDefault)
  const document: ReleaseMachine = { version: 1, release: release.name, inputs, image, at: Date.now(), ...(launch && { launch }) }
  await world.ledger.put(at, document)
  return launch
}
