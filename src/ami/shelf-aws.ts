import type { Ec2Images } from '../io/ec2-images.ts'
import type { Baked, MachineEvent, Shelf } from './machine.ts'
import { registerAmi, removeAmi } from './register.ts'

export interface AwsShelfWorld {
  images(region: string): Ec2Images
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/** AMIs of an account: kept where they were made, registered as machine.ami asks, and copied to the other regions. */
export function awsShelf(world: AwsShelfWorld): Shelf {
  const own = (baked: Baked) => {
    if (baked.kind === 'ami') return baked
    throw new Error(`${baked.path} is no AMI`)
  }
  return {
    async has(baked) {
      const { id, region, copies = [] } = own(baked)
      const found = await Promise.all([{ id, region }, ...copies].map((each) => world.images(each.region).get(each.id)))
      return found.every((image) => image?.state === 'available')
    },
    keep: (baked, plan) => registerAmi(own(baked), plan, world),
    async discard(baked) {
      const { id, region, copies = [] } = own(baked)
      for (const each of [...copies, { id, region }]) await removeAmi(each.id, world.images(each.region))
    },
  }
}
