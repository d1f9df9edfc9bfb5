import { TAG } from '../aws-tags.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import type { Ec2Network } from '../io/ec2-network.ts'
import type { Ec2Templates } from '../io/ec2-templates.ts'
import { checkRegistration } from './check-registration.ts'
import type { Baker, MachinePlan } from './machine.ts'
import { checkInstanceType } from './machine-type.ts'
import { proofRequest } from './prove-aws.ts'
import { copyRegions } from './registration.ts'

export interface AwsCheckWorld {
  instances: Ec2Instances
  network: Pick<Ec2Network, 'region' | 'find'>
  templates: Pick<Ec2Templates, 'get' | 'versions'>
  images(region: string): Pick<Ec2Images, 'mayCopy'>
}

/**
 * Cheap facts about an AMI that is to be baked, before anything is made: its options, its instance type, the network that proves it, and by EC2's DryRun what
 * these credentials may do. Throws bad_ami_options, bad_instance_type (exit 2), proof_network_*, ec2_denied with the action to allow (exit 4).
 */
export async function checkAws(plan: MachinePlan, baker: Baker['name'], verify: boolean, world: AwsCheckWorld): Promise<void> {
  const { base, definition } = plan
  if (base.kind !== 'ami') return
  checkRegistration(definition, base.region, baker)
  await checkInstanceType(plan, world.instances)
  // Bakers that change disks prove them here, and upload to each region by themselves.
  const onAws = baker === 'packer' || plan.services.some(({ imds }) => imds)
  if (verify && onAws) await world.instances.mayRun(await proofRequest(base, plan, 'check', world))
  if (baker === 'packer')
    for (const region of copyRegions(definition, base.region))
      await world.images(region).mayCopy(base, { [TAG.project]: plan.project })
}
