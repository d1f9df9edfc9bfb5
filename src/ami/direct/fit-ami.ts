import type { Ec2Image } from '../../io/ec2-image.ts'

/** What instances of Linux without a licence are billed as: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-info-fields.html */
const PLAIN = { platform: 'Linux/UNIX', operation: 'RunInstances' }

/**
 * Why only Packer can bake upon an AMI, as the end of a sentence; undefined: bake can. Pure. RegisterImage can't say what a licence costs: an image that it makes of
 * such a base would run without one.
 */
export function unfitAmi({ id, productCodes, billing, snapshots, hardware, rootSnapshot }: Ec2Image): string | undefined {
  if (productCodes.length > 0)
    return `${id} carries product codes of AWS Marketplace (${productCodes.join(', ')}), which an image that is registered would lose`
  if (billing.platform !== PLAIN.platform || billing.operation !== PLAIN.operation)
    return `${id} is billed as ${billing.platform} (${billing.operation}), which an image that is registered would lose`
  if (hardware.virtualization !== 'hvm') return `${id} is ${hardware.virtualization}`
  if (rootSnapshot === undefined) return `${id} has no snapshot of its root volume`
  if (snapshots.length > 1) return `${id} has ${snapshots.length} volumes`
  return undefined
}
