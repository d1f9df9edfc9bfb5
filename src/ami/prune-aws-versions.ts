import { TAG } from '../aws-tags.ts'
import { versionDescription } from './launch-template.ts'
import { listReleases } from './list.ts'
import type { OpenRegion } from './prune-aws.ts'
import type { PruneLedger } from './prune-aws-records.ts'

export interface SpareVersion {
  template: string
  number: number
  why: string
}

/** By these AWS itself marks instances that were launched from a template. */
const LAUNCHED_FROM = 'aws:ec2launchtemplate:id'
const LAUNCHED_BY = 'aws:ec2launchtemplate:version'

/**
 * Launch template versions that bake made for releases of the project that are older than the newest `keep`. Without that their images would be named for
 * ever. Never the default or the newest version, nor one that an auto-scaling group names, an instance was launched from or a stack goes back to; nor one that somebody else made.
 */
export async function spareVersions(project: string, region: OpenRegion, world: PruneLedger): Promise<SpareVersion[]> {
  const { keep } = world
  if (keep === undefined) return []
  const { releases } = await listReleases(world)
  const old = new Map(releases.slice(keep).map(({ release }) => [release.name, release.commit]))
  if (old.size === 0) return []
  const [grouped, delivered] = await Promise.all([region.groups.templateVersions(), world.delivered()])
  const spare: SpareVersion[] = []
  for (const { id, name, defaultVersion, latestVersion, versions } of await region.templates.all())
    for (const { number, description, tags } of versions) {
      const { [TAG.release]: release = '', [TAG.sha]: commit = '' } = tags.instance ?? {}
      const isBakes = description === versionDescription(project, { name: release, commit })
      if (!isBakes || old.get(release) !== commit || number === defaultVersion || number === latestVersion) continue
      if ([id, name].some((template) => grouped.has(`${template} ${number}`))) continue
      if (delivered.has(`${id} ${number}`)) continue
      const launched = await region.instances.tagged({ [LAUNCHED_FROM]: id, [LAUNCHED_BY]: String(number) })
      if (launched.some(({ state }) => state !== 'terminated')) continue
      spare.push({ template: name, number, why: `it is of release ${release}, which is none of the newest ${keep}` })
    }
  return spare
}
