import type { GroupImages } from '../io/autoscaling-images.ts'
import type { Ec2Templates, Template, TemplateVersion } from '../io/ec2-templates.ts'

export interface ReferenceWorld {
  templates: Pick<Ec2Templates, 'all' | 'versions' | 'removeVersion'>
  groups: Pick<GroupImages, 'named' | 'templateVersions'>
}

/**
 * Launch templates whose versions are read once: a version never changes, so a template is read again only when it has a newer one. That makes a look before each
 * deletion one call, not one for each template. A version that was deleted meanwhile is still told of, which keeps an image until the next pass.
 */
export function rememberVersions(templates: ReferenceWorld['templates']) {
  const known = new Map<string, Promise<TemplateVersion[]>>()
  return {
    removeVersion: (name: string, version: number) => templates.removeVersion(name, version),
    async all(): Promise<(Template & { versions: TemplateVersion[] })[]> {
      const found: (Template & { versions: TemplateVersion[] })[] = []
      for (const template of await templates.all()) {
        const key = `${template.id} ${template.latestVersion}`
        const versions = known.get(key) ?? templates.versions(template.name)
        known.set(key, versions)
        found.push({ ...template, versions: await versions })
      }
      return found
    },
  }
}

/** What names AMIs in one region, beside instances: every version of every launch template, whoever made it, and every auto-scaling group. AMI id → by what. */
export async function readReferences(
  templates: ReturnType<typeof rememberVersions>,
  groups: ReferenceWorld['groups'],
): Promise<Map<string, string>> {
  const named = new Map(await groups.named())
  for (const { name, versions } of await templates.all())
    for (const { imageId, number } of versions)
      if (imageId !== undefined) named.set(imageId, `launch template ${name}, version ${number}`)
  return named
}
