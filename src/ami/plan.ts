import type { MachineDefinition } from '../config.ts'
import type { Pinned } from './images.ts'
import { type Ingredients, inputsHash } from './inputs.ts'
import type { Base, ImageReference, MachinePlan, Rendered, UnrenderedPlan } from './machine.ts'
import type { MachineSource } from './source.ts'

export interface PlanWorld {
  /** What the machine starts from; a path is relative to the directory of this machine's bake.yaml. */
  base(definition: MachineDefinition): Promise<Base>
  /** The same plan gives the same text. `templates`: the user's, by name. */
  render(plan: UnrenderedPlan, templates: Map<string, string>): Promise<Rendered>
}

/** In place of the hash of what is hashed. */
const UNKNOWN_INPUTS = '0'.repeat(64)

/** What is baked, and the hash of it, which takes rendering once: without the hash, which the disk's manifest names. */
export async function planMachine(source: MachineSource, base: Base, pinned: Pinned, world: PlanWorld): Promise<UnrenderedPlan> {
  const { definition, project, release, setup } = source
  const ingredients: Ingredients = {
    project,
    definition,
    architecture: base.architecture,
    base,
    services: definition.services.map((service) => ({ ...service, reference: referenceOf(service.image, pinned) })),
    standIns: standInsOf(definition, pinned),
    setup,
  }
  const unhashed = await world.render({ ...ingredients, release, inputs: UNKNOWN_INPUTS }, source.templates)
  return { ...ingredients, release, inputs: inputsHash(ingredients, unhashed) }
}

/** Everything that is known before a baker starts. */
export const renderPlan = async (plan: UnrenderedPlan, { templates }: MachineSource, world: PlanWorld): Promise<MachinePlan> => ({
  ...plan,
  rendered: await world.render(plan, templates),
})

/** Without its size, which isn't known each time, and doesn't count. */
function referenceOf(name: string, { images, standIns }: Pinned): ImageReference {
  const found = [...images, ...standIns].find(({ image }) => image === name)
  if (!found) throw new Error(`image ${name} was not pinned`)
  const { image, repository, digest } = found
  return { image, repository, digest }
}

/** The plan with its images' sizes, for steps that look whether there is room: the same inputs, and the same files on the disk. */
export function withSizes(plan: UnrenderedPlan, images: ImageReference[]): UnrenderedPlan {
  const sizes = new Map(images.map(({ digest, sizeBytes }) => [digest, sizeBytes]))
  const services = plan.services.map((service) => {
    const sizeBytes = sizes.get(service.reference.digest)
    return { ...service, reference: { ...service.reference, ...(sizeBytes !== undefined && { sizeBytes }) } }
  })
  return { ...plan, services }
}

/** Each once, however many services name it. */
function standInsOf(definition: MachineDefinition, pinned: Pinned): ImageReference[] {
  const names = definition.services.flatMap(({ proof }) => proof.with.map(({ image }) => image))
  return [...new Set(names)].map((name) => referenceOf(name, pinned))
}
