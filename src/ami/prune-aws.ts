import { TAG } from '../aws-tags.ts'
import { BakeError } from '../errors.ts'
import type { Ec2Tags } from '../io/ec2.ts'
import type { Ec2Image } from '../io/ec2-image.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import type { Ec2Leftovers } from '../io/ec2-leftovers.ts'
import { append } from '../jobs/claims.ts'
import { newBuildId, sha256 } from '../names.ts'
import { amiNamePattern, runOfAmiName } from './ami-name.ts'
import { parentSnapshots } from './direct/kept.ts'
import type { Leftover, PrunePart } from './prune.ts'
import { type Over, type PruneLedger, type Published, publishedImages, runIsOver } from './prune-aws-records.ts'
import { type ReferenceWorld, readReferences, rememberVersions } from './prune-aws-references.ts'
import { spareVersions } from './prune-aws-versions.ts'

/** EC2 of one region, as far as pruning needs it. */
export interface PruneRegion extends ReferenceWorld {
  images: Pick<Ec2Images, 'tagged' | 'named' | 'tag' | 'sharedWith' | 'remove'>
  instances: Pick<Ec2Instances, 'tagged' | 'ofImage' | 'terminate'>
  leftovers: Pick<Ec2Leftovers, 'tagged' | 'remove'>
}

export type OpenRegion = Omit<PruneRegion, 'templates'> & { templates: ReturnType<typeof rememberVersions> }

export interface AwsPruneWorld extends PruneLedger {
  project: string
  /** Every region that images are baked in or copied to. */
  regions: string[]
  /** Asked for once per region. */
  region(name: string): PruneRegion
}

type World = Omit<AwsPruneWorld, 'region'> & { region(name: string): OpenRegion }

type Ask = (tags: Ec2Tags) => Promise<Over | undefined>

interface Item extends Leftover {
  remove(): Promise<boolean>
}

/** Of whoever has an instance start others: bake starts its own one by one. */
const GROUP_TAG = 'aws:autoscaling:groupName'

/**
 * What bakes of a project left on AWS, found by their tags: images that no published record names and, with `keep`, those of older releases; snapshots without
 * an image; launch template versions of those releases; instances, volumes, key pairs and security groups of runs that are over. Left alone is what a live run made, what is shared or protected, and
 * what anything names: launch template versions, auto-scaling groups, instances, and workers whose next bake is put upon its snapshot. All of that is read again, in every region, before each deletion.
 */
export function awsPart(given: AwsPruneWorld): PrunePart {
  const regions = new Map(
    given.regions.map((name) => {
      const { templates, ...region } = given.region(name)
      return [name, { ...region, templates: rememberVersions(templates) }]
    }),
  )
  const world: World = { ...given, region: (name) => regions.get(name)! }
  return {
    name: `aws-${sha256(`${world.project}\0${world.regions.join(' ')}`).slice(0, 12)}`,
    // That nothing names it is read again: a second pass is all that a person needs to have seen the first.
    graceMs: 0,
    find: async () => (await findItems(world)).map(({ remove: _, ...leftover }) => leftover),
    remove: async ({ id }) => (await findItems(world)).find((item) => item.id === id)?.remove() ?? false,
  }
}

async function findItems(world: World): Promise<Item[]> {
  const mine = { [TAG.project]: world.project, [TAG.run]: '*' }
  const seen = await Promise.all(
    world.regions.map(async (name) => {
      const region = world.region(name)
      const [images, instances, leftovers] = await Promise.all([
        imagesOf(region, mine),
        region.instances.tagged(mine),
        region.leftovers.tagged(mine),
      ])
      return { name, region, images, instances, leftovers }
    }),
  )
  const over = runsThatAreOver(world)
  const parents = await parentSnapshots(world.ledger, world.now?.() ?? Date.now())
  const every = seen.flatMap(({ images }) => images)
  const versions = await Promise.all(seen.map(({ name, region }) => versionItems(name, region, world)))
  const items: Item[] = [...versions.flat(), ...(await imageItems(every, over, parents, world))]
  for (const { name, region, images, instances, leftovers } of seen) {
    const used = new Set([...images.flatMap(({ snapshots }) => snapshots), ...parents])
    for (const { id, tags, state } of instances) {
      const ends = state === 'terminated' || state === 'shutting-down'
      const found = ends || GROUP_TAG in tags ? undefined : await over(tags)
      if (found)
        items.push({
          kind: 'instance',
          id: `${name}/${id}`,
          why: found.why,
          remove: () => unlessUsed(() => region.instances.terminate([id])),
        })
    }
    for (const leftover of leftovers) {
      const found = leftover.inUse || used.has(leftover.id) ? undefined : await over(leftover.tags)
      // Those of stand-ins are no image's, and also made by runs that record nothing (bake verify).
      const mayBeImages = leftover.kind === 'snapshot' && leftover.tags[TAG.role] !== 'proof'
      if (found === undefined || (mayBeImages && !found.recorded)) continue
      const kind = leftover.kind.replace('-', ' ')
      items.push({
        kind,
        id: `${name}/${leftover.id}`,
        why: found.why,
        remove: () => unlessUsed(() => region.leftovers.remove(leftover)),
      })
    }
  }
  return items
}

/** Those that carry the tags and, as if they did, those that were killed before they got them. */
async function imagesOf({ images }: OpenRegion, mine: { [TAG.project]: string; [TAG.run]: string }): Promise<Ec2Image[]> {
  const project = mine[TAG.project]
  const [tagged, named] = await Promise.all([images.tagged(mine), images.named(amiNamePattern(project))])
  const untagged = named.flatMap((image) => {
    const run = TAG.run in image.tags ? undefined : runOfAmiName(image.name, project)
    return run === undefined ? [] : [{ ...image, tags: { ...image.tags, [TAG.run]: run } }]
  })
  return [...tagged, ...untagged]
}

/** Each run is asked about once. */
function runsThatAreOver(world: World): Ask {
  const known = new Map<string, Promise<Over | undefined>>()
  return (tags) => {
    const run = tags[TAG.run] ?? ''
    const asked = known.get(run) ?? runIsOver(run, world)
    known.set(run, asked)
    return asked
  }
}

async function versionItems(name: string, region: OpenRegion, world: World): Promise<Item[]> {
  return (await spareVersions(world.project, region, world)).map(({ template, number, why }) => ({
    kind: 'launch template version',
    id: `${name}/${template}/${number}`,
    why,
    remove: () => unlessUsed(() => region.templates.removeVersion(template, number)),
  }))
}

/** An image and its copies stay or go together: what one is needed for, the others are. */
async function imageItems(images: Ec2Image[], over: Ask, parents: ReadonlySet<string>, world: World): Promise<Item[]> {
  const published = await publishedImages(images, world)
  const spare: { together: Ec2Image[]; why: string }[] = []
  for (const [, together] of Map.groupBy(images, originOf)) {
    const why = await whySpare(together, published, over)
    if (why !== undefined) spare.push({ together, why })
  }
  if (spare.length === 0) return []
  const references = new Map<string, Map<string, string>>()
  for (const name of world.regions)
    references.set(name, await readReferences(world.region(name).templates, world.region(name).groups))
  const items: Item[] = []
  for (const { together, why } of spare) {
    if (together.some(({ snapshots }) => snapshots.some((id) => parents.has(id)))) continue
    const needed = await Promise.all(together.map((image) => isNeeded(image, references.get(image.region), world)))
    if (needed.includes(true)) continue
    items.push(...together.map((image) => imageItem(image, why, published.get(image.id), world)))
  }
  return items
}

/** Somebody wanted it to stay, others may use it, or something names it. */
async function isNeeded(
  { id, region, ...image }: Ec2Image,
  references: Map<string, string> | undefined,
  world: World,
): Promise<boolean> {
  if (image.public || image.protected || references?.has(id) !== false) return true
  const { images, instances } = world.region(region)
  const [accounts, running] = await Promise.all([images.sharedWith(id), instances.ofImage(id)])
  return accounts.length > 0 || running.length > 0
}

const originOf = ({ id, tags }: Ec2Image): string => tags[TAG.copyOf] ?? id

async function whySpare(together: Ec2Image[], published: Map<string, Published>, over: Ask): Promise<string | undefined> {
  const records = together.flatMap(({ id }) => published.get(id) ?? [])
  if (records.some(({ kept }) => kept)) return undefined
  if (records[0] !== undefined) return records[0].why
  const runs = await Promise.all(together.map(({ tags }) => over(tags)))
  return runs.every((run) => run?.recorded === true) ? runs[0]?.why : undefined
}

function imageItem(image: Ec2Image, why: string, published: Published | undefined, world: World): Item {
  const { id, region, tags, snapshots } = image
  const remove = async () => {
    // First: whoever asks for it from now on bakes it anew.
    if (published && !(await withdraw(published, world))) return false
    const { images } = world.region(region)
    return unlessUsed(async () => {
      // Killed after the image is gone, the next pass finds its snapshots.
      if (!(TAG.project in tags))
        await images.tag([id, ...snapshots], { [TAG.project]: world.project, [TAG.run]: tags[TAG.run]! })
      await images.remove(image)
    })
  }
  return { kind: 'ami', id: `${region}/${id}`, why, sizeBytes: image.rootBytes, remove }
}

async function withdraw({ claims }: Published, { ledger }: World): Promise<boolean> {
  const digest = claims.published?.digest
  if (digest === undefined) return true
  return (await append(ledger, claims, { state: 'withdrawn', build: newBuildId(), digest, reason: 'missing' })) !== undefined
}

/** false: EC2 says that something uses it, such as an instance that is about to end. */
async function unlessUsed(remove: () => Promise<unknown>): Promise<boolean> {
  try {
    await remove()
    return true
  } catch (error) {
    if (error instanceof BakeError && error.code === 'ec2_refused') return false
    throw error
  }
}
