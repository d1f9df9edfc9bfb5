import type { RegisterImageCommandInput } from '@aws-sdk/client-ec2'
import { type Ec2, type Ec2Tags, tagSpecifications } from './ec2.ts'
import type { Ec2Image } from './ec2-image.ts'

/** An image of a snapshot. Architecture, boot mode and the like in EC2's words. */
export interface NewImage {
  name: string
  description: string
  snapshot: string
  like: Pick<Ec2Image, 'architecture' | 'bootMode' | 'hardware' | 'rootDevice'>
  volume: { bytes: number; type: string; iops?: number; throughputMiBs?: number }
  tags: Ec2Tags
}

const GIB = 2 ** 30

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html: only the image is tagged, and what has a snapshot is encrypted as that is. */
export function registerImage(ec2: Ec2, image: NewImage, more: { DryRun?: boolean } = {}) {
  const { name, description, snapshot, like, volume, tags } = image
  const { architecture, bootMode, hardware, rootDevice } = like
  const Ebs = {
    ...{ SnapshotId: snapshot, VolumeSize: Math.ceil(volume.bytes / GIB), VolumeType: volume.type, DeleteOnTermination: true },
    ...(volume.iops !== undefined && { Iops: volume.iops }),
    ...(volume.throughputMiBs !== undefined && { Throughput: volume.throughputMiBs }),
  }
  // EC2's words came from EC2.
  const input = {
    ...{ Name: name, Description: description, Architecture: architecture, VirtualizationType: hardware.virtualization },
    ...{ RootDeviceName: rootDevice, BlockDeviceMappings: [{ DeviceName: rootDevice, Ebs }], ImdsSupport: 'v2.0' },
    ...(bootMode !== undefined && { BootMode: bootMode }),
    ...(hardware.ena && { EnaSupport: true }),
    ...(hardware.sriov !== undefined && { SriovNetSupport: hardware.sriov }),
    ...(hardware.tpm !== undefined && { TpmSupport: hardware.tpm }),
    TagSpecifications: tagSpecifications(['image'], tags),
    ...more,
  } as RegisterImageCommandInput
  const request = { action: 'RegisterImage', subject: `${name} of ${snapshot}`, also: ['ec2:CreateTags'] }
  return ec2.call(request, ({ sdk, client }) => client.send(new sdk.RegisterImageCommand(input)))
}
