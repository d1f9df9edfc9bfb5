import { Pace } from '../../../src/ami/direct/pace.ts'
import type { UploadWorld } from '../../../src/ami/direct/upload.ts'
import type { MachineEvent } from '../../../src/ami/machine.ts'
import { Ebs } from '../../../src/io/ebs.ts'
import { Ec2 } from '../../../src/io/ec2.ts'
import { Ec2Snapshots } from '../../../src/io/ec2-snapshots.ts'
import type { TestEc2 } from '../../support/ec2.ts'

const NEVER = new AbortController().signal

/** EBS and EC2 by bake's own adapters, of whatever region. */
export interface TestRegions extends AsyncDisposable {
  ebs(region: string): Ebs
  snapshots(region: string): Ec2Snapshots
  /** What was told so far. */
  told: MachineEvent[]
  world(more?: Partial<UploadWorld>): UploadWorld
}

export function testRegions(): TestRegions {
  const opened = new Map<string, { ebs: Ebs; ec2: Ec2; snapshots: Ec2Snapshots }>()
  const of = (region: string) => {
    const ec2 = opened.get(region)?.ec2 ?? new Ec2(region)
    const found = opened.get(region) ?? { ec2, ebs: new Ebs(region), snapshots: new Ec2Snapshots(ec2, { pollMs: 5 }) }
    opened.set(region, found)
    return found
  }
  const regions = {
    ebs: (region: string) => of(region).ebs,
    snapshots: (region: string) => of(region).snapshots,
    told: [] as MachineEvent[],
  }
  return Object.assign(regions, {
    world: (more: Partial<UploadWorld> = {}) => ({
      ...{ ebs: regions.ebs, snapshots: regions.snapshots, pace: new Pace(), signal: NEVER },
      tell: (event: MachineEvent) => void regions.told.push(event),
      ...more,
    }),
    async [Symbol.asyncDispose]() {
      for (const { ebs, ec2 } of opened.values()) for (const each of [ebs, ec2]) await each[Symbol.asyncDispose]()
    },
  })
}

/** A snapshot of this account with these blocks, as EC2 makes one of a volume. */
export async function baseSnapshot(
  world: TestEc2,
  region: string,
  blocks: Map<number, Buffer>,
  more: { encrypted?: boolean; volumeGib?: number } = {},
) {
  const { snapshot } = await world.makeImage({ region })
  await world.gaps.store.fill(region, snapshot, { volumeGib: 1, ...more, blocks })
  return snapshot
}
