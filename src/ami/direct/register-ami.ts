import { TAG } from '../../aws-tags.ts'
import { failpoint } from '../../failpoint.ts'
import type { Ec2Image } from '../../io/ec2-image.ts'
import type { Ec2Images } from '../../io/ec2-images.ts'
import type { NewImage } from '../../io/ec2-register.ts'
import { amiName } from '../ami-name.ts'
import type { Baked, BakeRun, MachinePlan } from '../machine.ts'
import { removeAmi } from '../register.ts'

type BakedAmi = Extract<Baked, { kind: 'ami' }>

export interface RegisterAsk {
  plan: MachinePlan
  run: Pick<BakeRun, 'id'>
  /** What is told of the machine. */
  base: Ec2Image
  /** By region, completed. */
  snapshots: ReadonlyMap<string, string>
  diskBytes: number
  proven: boolean
}

/** Tags of all that the direct baker makes in a run. */
export const runTags = ({ project, inputs, definition }: MachinePlan, run: Pick<BakeRun, 'id'>): Record<string, string> => ({
  Name: amiName({ project, inputs }, run.id),
  ...definition.ami.tags,
  [TAG.project]: project,
  [TAG.inputs]: inputs,
  [TAG.run]: run.id,
  [TAG.proven]: 'false',
})

/** The image that would be registered in one region. */
export function newImage({ plan, run, base, diskBytes, proven }: RegisterAsk, snapshot: string, copyOf?: string): NewImage {
  const { ami } = plan.definition
  const { sizeBytes = 0, type = 'gp3', iops, throughputMiBs } = ami.volume ?? {}
  const bootMode = ami.bootMode ?? base.bootMode
  return {
    name: amiName(plan, run.id),
    description: `${plan.project} ${plan.release.name}`.slice(0, 250),
    snapshot,
    like: { ...base, ...(bootMode !== undefined && { bootMode }) },
    volume: {
      ...{ bytes: Math.max(diskBytes, base.rootBytes, sizeBytes), type },
      ...(iops !== undefined && { iops }),
      ...(throughputMiBs !== undefined && { throughputMiBs }),
    },
    tags: { ...runTags(plan, run), [TAG.proven]: String(proven), ...(copyOf !== undefined && { [TAG.copyOf]: copyOf }) },
  }
}

/**
 * Images of what was uploaded to each region: the base's region first, the others as its copies. None is left when one fails, but for what EC2 doesn't let go
 * (`bake prune` finds it by its run). Throws ec2_* (exit 4).
 */
export async function registerSnapshots(ask: RegisterAsk, images: (region: string) => Ec2Images): Promise<BakedAmi> {
  await using undo = new AsyncDisposableStack()
  const register = async (region: string, snapshot: string, copyOf?: string) => {
    const id = await images(region).register(newImage(ask, snapshot, copyOf))
    // What went wrong before counts, not this: bake prune finds it by its run.
    undo.defer(() => removeAmi(id, images(region)).catch(() => {}))
    if (ask.proven) await images(region).tag([snapshot], { [TAG.proven]: 'true' })
    return { region, id, snapshots: [snapshot] }
  }
  const { region: home } = ask.base
  const first = await register(home, ask.snapshots.get(home)!)
  await failpoint('direct-registered')
  const others = [...ask.snapshots].filter(([region]) => region !== home)
  const ended = await Promise.allSettled(others.map(([region, snapshot]) => register(region, snapshot, first.id)))
  const copies = ended.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
  undo.move()
  return { kind: 'ami', ...first, ...(copies.length > 0 && { copies }) }
}
