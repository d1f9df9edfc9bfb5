import type { GroupImages } from '../io/autoscaling-images.ts'
import type { Ec2Templates } from '../io/ec2-templates.ts'

export interface ReferenceWorld {
  templates: Pick<Ec2Templates, 'names' | 'versions'>
  groups: Pick<GroupImages, 'named'>
}

/** What names AMIs in one region, beside instances: every version of every launch template, whoever made it, and every auto-scaling group. AMI id → by what. */
export async function readReferences({ templates, groups }: ReferenceWorld): Promise<Map<string, string>> {
  const named = new Map(await groups.named())
  for (const name of await templates.names())
    for (const { imageId, number } of await templates.versions(name))
      if (imageId !== undefined) named.set(imageId, `launch template ${name}, version ${number}`)
  return named
}
