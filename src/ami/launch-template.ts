import { TAG } from '../aws-tags.ts'
import { refused } from '../errors.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Templates, NewTemplate, TemplateChange, TemplateVersion } from '../io/ec2-templates.ts'
import { sha256 } from '../names.ts'
import { canonical } from './inputs.ts'
import type { Baked, MachineEvent, Release, UnrenderedPlan } from './machine.ts'
import { instanceTypeOf } from './machine-type.ts'
import { withBakeLine } from './user-data.ts'

export interface LaunchTemplateVersion {
  name: string
  version: number
  /** It is what is launched when nobody names a version. */
  isDefault: boolean
  /** It was there already. */
  found: boolean
}

export interface TemplateWorld {
  /** Of the region of the AMI. */
  images: Pick<Ec2Images, 'waitAvailable'>
  templates: Ec2Templates
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/** EC2's limit. */
const MAX_DESCRIPTION = 255
/** For whatever asks for instance metadata from inside a container's own network. */
const CONTAINER_HOPS = 2

/**
 * The launch template version of a proven AMI and a release: a new one from the newest, with the image changed and the release named, or the first of a new
 * template, or one that is there and is the same. Default only when told. An image that isn't proven gets none: not_proven (exit 2) when it should become the
 * default. Throws ami_failed (exit 3), ec2_* (exit 4).
 */
export async function templateVersion(
  baked: Extract<Baked, { kind: 'ami' }>,
  plan: UnrenderedPlan,
  { makeDefault }: { makeDefault: boolean },
  world: TemplateWorld,
): Promise<LaunchTemplateVersion | undefined> {
  const { launchTemplate: name } = plan.definition
  if (name === undefined) return undefined
  const { templates, images, signal } = world
  // EC2 takes any id for a template, whatever becomes of it.
  const image = await images.waitAvailable(baked.id, signal)
  if (image.tags[TAG.proven] !== 'true') {
    if (makeDefault) throw notProven(baked.id, plan.release)
    note(
      world,
      `${baked.id} is not proven: no version of launch template ${name} is made for it; bake verify ${plan.release.name} proves it`,
    )
    return undefined
  }
  const template = await templates.get(name)
  if (template === undefined) {
    await templates.create(firstVersion(name, baked.id, plan))
    note(world, `launch template ${name} is new: give it security groups and an instance profile before a group uses it`)
    return { name, version: 1, isDefault: true, found: false }
  }
  const versions = await templates.versions(name)
  const source = versions[0]!
  const change = changeOf(source, baked.id, plan.release, world)
  const same = versions.find((version) => isSame(version, source, change))
  const version =
    same?.number ??
    (await templates.createVersion(name, source.number, {
      ...change,
      description: describe(plan),
      token: sha256(canonical([name, source.number, change.tags, baked.id, plan.release])),
    }))
  if (makeDefault && template.defaultVersion !== version) await templates.setDefault(name, version)
  return { name, version, isDefault: makeDefault || template.defaultVersion === version, found: same !== undefined }
}

function firstVersion(name: string, imageId: string, plan: UnrenderedPlan): NewTemplate {
  const { release } = plan
  return {
    name,
    imageId,
    instanceType: instanceTypeOf(plan),
    hopLimit: plan.services.some(({ imds }) => imds) ? CONTAINER_HOPS : 1,
    userData: withBakeLine(undefined, lineOf(release))!,
    tags: { instance: tagsOf(release) },
    ownTags: { [TAG.project]: plan.project },
    description: describe(plan),
    token: sha256(canonical([name, imageId, release])),
  }
}

/** What the version differs in from its source: image, release. */
function changeOf(source: TemplateVersion, imageId: string, release: Release, world: TemplateWorld): TemplateChange {
  const userData = withBakeLine(source.userData, lineOf(release))
  if (userData === undefined)
    note(
      world,
      `the user-data of launch template version ${source.number} can't take another line (too long, or packed otherwise than with gzip): bake-release will not know its release there`,
    )
  return {
    imageId,
    ...(userData !== undefined && { userData }),
    tags: { ...source.tags, instance: { ...source.tags.instance, ...tagsOf(release) } },
  }
}

/** Whether `version` is what `source` would become. */
const isSame = (
  version: TemplateVersion,
  source: TemplateVersion,
  { imageId, userData = source.userData, tags }: TemplateChange,
) =>
  version.imageId === imageId &&
  version.others === source.others &&
  (version.userData ?? Buffer.alloc(0)).equals(userData ?? Buffer.alloc(0)) &&
  canonical(version.tags) === canonical(tags)

/** By it, and the tags of its instances, `bake prune` knows a version again. */
export const versionDescription = (project: string, { name, commit }: Release): string =>
  `${project} ${name} (${commit.slice(0, 12)}), by bake`.slice(0, MAX_DESCRIPTION)

const tagsOf = ({ name, commit }: Release) => ({ [TAG.release]: name, [TAG.sha]: commit })
const lineOf = ({ name, commit }: Release) => ({ release: name, sha: commit })
const describe = ({ release, project }: UnrenderedPlan): string => versionDescription(project, release)
const note = ({ tell }: TemplateWorld, text: string) => tell({ type: 'note', level: 'warning', text, t: Date.now() })

const notProven = (id: string, { name }: Release) =>
  refused('not_proven', `${id} is not proven: no launch template version may name it`, {
    next: `bake verify ${name} proves it`,
    ids: { ami: id, release: name },
  })
