import { TAG } from '../aws-tags.ts'
import { messageOf } from '../errors.ts'
import type { Ec2Image } from '../io/ec2-image.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import { sha256 } from '../names.ts'
import type { Baked, MachineEvent, MachinePlan } from './machine.ts'
import { copyRegions, kmsKeyIn, type RegistrationStep, registrationOf, registrationSteps } from './registration.ts'

type BakedAmi = Extract<Baked, { kind: 'ami' }>

export interface RegisterWorld {
  images(region: string): Ec2Images
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/**
 * Makes an AMI what machine.ami asks for, in its own region and in copies in the others. What is so already is left alone, a copy that is there is taken.
 * Fails as a whole: copies that it began are taken away again. Throws ami_failed (exit 3), ec2_* (exit 4).
 */
export async function registerAmi(baked: BakedAmi, plan: MachinePlan, world: RegisterWorld): Promise<BakedAmi> {
  const { signal } = world
  const home = world.images(baked.region)
  const image = await home.waitAvailable(baked.id, signal)
  await using undo = new AsyncDisposableStack()
  const regions = copyRegions(plan.definition, baked.region)
  const begun = await Promise.allSettled(regions.map((region) => copyTo(region, image, baked, plan, world, undo)))
  const copies = begun.map((each) => settled(each))
  const ready = await Promise.allSettled(copies.map(({ region, id }) => world.images(region).waitAvailable(id, signal)))
  const all = [image, ...ready.map((each) => settled(each))]
  const wanted = registrationOf(plan, image)
  for (const each of all) {
    const images = world.images(each.region)
    const sharedWith = wanted.share.length > 0 ? await images.sharedWith(each.id) : []
    const steps = registrationSteps(wanted, { image: each, sharedWith }, Date.now())
    for (const step of steps) {
      signal.throwIfAborted()
      await take(step, each, images)
    }
  }
  undo.move()
  const [, ...others] = all.map(({ id, region, snapshots }) => ({ id, region, snapshots }))
  return { ...baked, snapshots: image.snapshots, ...(others.length > 0 && { copies: others }) }
}

async function copyTo(
  region: string,
  source: Ec2Image,
  { copies = [] }: BakedAmi,
  plan: MachinePlan,
  world: RegisterWorld,
  undo: AsyncDisposableStack,
): Promise<{ region: string; id: string }> {
  const images = world.images(region)
  // The direct baker uploads to each region by itself.
  const made = copies.find((copy) => copy.region === region)
  if (made !== undefined) return { region, id: made.id }
  const there = (await images.tagged({ [TAG.copyOf]: source.id })).find(
    ({ state }) => state === 'available' || state === 'pending',
  )
  if (there !== undefined) return { region, id: there.id }
  const { kmsKey } = plan.definition.ami
  const key = kmsKey && kmsKeyIn(kmsKey, region)
  const id = await images.copy({
    sourceRegion: source.region,
    sourceId: source.id,
    name: source.name,
    description: source.description ?? source.name,
    ...(key !== undefined && { kmsKey: key }),
    tags: { ...registrationOf(plan, source).tags, [TAG.copyOf]: source.id },
    token: sha256(`${source.id} ${region} ${key ?? ''}`),
  })
  undo.defer(() =>
    removeAmi(id, images).catch((error: unknown) => {
      // What went wrong before counts, not this.
      const text = `the copy ${id} in ${region} is left, which bake prune removes: ${messageOf(error)}`
      world.tell({ type: 'note', level: 'warning', text, t: Date.now() })
    }),
  )
  world.tell({ type: 'note', level: 'info', text: `copying ${source.id} to ${region} as ${id}`, t: Date.now() })
  return { region, id }
}

async function take(step: RegistrationStep, { id, snapshots }: Ec2Image, images: Ec2Images): Promise<void> {
  switch (step.action) {
    case 'tag':
      return images.tag([id, ...snapshots], step.tags)
    case 'require-imds-v2':
      return images.requireImdsV2(id)
    case 'deprecate':
      return images.deprecate(id, step.at)
    case 'share':
      return images.share(id, step.accounts)
    case 'protect':
      return images.protect(id)
  }
}

/** Takes away what this run made, its protection and its snapshots with it. */
export async function removeAmi(id: string, images: Ec2Images): Promise<void> {
  const image = await images.get(id)
  if (image === undefined) return
  if (image.protected) await images.unprotect(id)
  await images.remove(image)
}

function settled<T>(result: PromiseSettledResult<T>): T {
  if (result.status === 'rejected') throw result.reason
  return result.value
}
