import { refused } from '../errors.ts'
import { readClaims } from '../jobs/claims.ts'
import type { BakeAsk } from './bake.ts'
import { checkDeclared, type EnsuredImage, namesOf, pinImages } from './images.ts'
import type { MachinePlan } from './machine.ts'
import { planMachine, renderPlan } from './plan.ts'
import { type ReleaseAsk, type ResolvedRelease, resolveRelease } from './release.ts'
import { readSource } from './source.ts'
import { look, type Machine } from './turn.ts'
import type { BakeWorld } from './world.ts'

/** What `bake ami` would do. */
export interface Preview {
  release: ResolvedRelease
  /** Images that it needs; those without a reference aren't built yet. */
  images: EnsuredImage[]
  /** Known when all images are. */
  plan?: MachinePlan
  /** `build`: images come first. `wait`: somebody bakes the same inputs now. */
  action: 'none' | 'prove' | 'wait' | 'bake' | 'build'
  reason: string
  machine?: Machine
}

/** `bake ami --dry-run`: reads only. Throws what `bakeRelease` throws before it builds anything. */
export async function previewBake(ask: Pick<BakeAsk, 'verify' | 'rebake'> & ReleaseAsk, world: BakeWorld): Promise<Preview> {
  const { release, images, plan } = await planUnbuilt(ask, world)
  const missing = images.filter(({ reference }) => reference === undefined).map(({ image }) => image)
  if (!plan) return { release, images, action: 'build', reason: `${missing.join(', ')} must be built first` }
  const claims = await readClaims(world.ledger, plan.inputs)
  const seen = await look(plan, claims, { ...ask, since: claims.next }, world)
  const known = { release, images, plan }
  if (seen.kind === 'found') return { ...known, action: 'none', reason: 'it was baked and is there', machine: seen.machine }
  if (seen.kind === 'held')
    return { ...known, action: 'wait', reason: `${seen.by} bakes the same inputs now (build ${seen.build})` }
  if (seen.machine)
    return { ...known, action: 'prove', reason: 'it was baked, and is not proven as bake.yaml asks', machine: seen.machine }
  const because = { rebuild: 'it was asked for anew', missing: 'what was baked is gone' }
  return { ...known, action: 'bake', reason: seen.withdraw ? because[seen.withdraw.reason] : 'nobody has baked these inputs' }
}

/** `bake render`: the plan with all that is rendered for it. Throws images_missing (exit 2) when an image isn't built yet. */
export async function planRelease(ask: ReleaseAsk, world: BakeWorld): Promise<MachinePlan> {
  const { release, images, plan } = await planUnbuilt(ask, world)
  if (plan) return plan
  const missing = images.filter(({ reference }) => reference === undefined).map(({ image }) => image)
  throw refused('images_missing', `images of release ${release.name} are not built yet: ${missing.join(', ')}`, {
    next: `bake image --sha ${release.commit.slice(0, 12)}    builds them`,
    ids: { release: release.name, commit: release.commit },
  })
}

async function planUnbuilt(ask: ReleaseAsk, world: BakeWorld): Promise<Pick<Preview, 'release' | 'images' | 'plan'>> {
  const release = await resolveRelease(ask, world.commits, world.ledger)
  const source = await readSource(release, world, ask.variant)
  const base = await world.base(source.definition)
  checkDeclared(source.definition, source.images, base.architecture, world.defaultPlatform)
  const { own } = namesOf(source)
  const recorded = release.recorded?.images.map(({ image, repository, digest }) => ({
    image,
    reference: `${repository}@${digest}`,
  }))
  const images = recorded ?? (own.length === 0 ? [] : await world.images.published(release.commit, own))
  if (images.some(({ reference }) => reference === undefined)) return { release, images }
  const published = { ...world, images: { ...world.images, ensure: async () => images } }
  const pinned = await pinImages(source, release.recorded, published)
  return { release, images, plan: await renderPlan(await planMachine(source, base, pinned, world), source, world) }
}
