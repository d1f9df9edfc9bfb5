import {
  CreateImageCommand,
  CreateTagsCommand,
  DescribeImagesCommand,
  EC2Client,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2'
import { type EbsDirect, startEbsDirect } from './aws-gaps/ebs-direct.ts'
import { type Ec2Gaps, startEc2Gaps } from './aws-gaps/ec2.ts'
import { Environment } from './environment.ts'
import { MOTO_REGION, type Moto, startMoto, uniqueName } from './moto.ts'

/** An image of Amazon's that moto has in us-east-1 and in eu-west-1, x86_64. */
const BASE = 'al2023-ami-2023.*-x86_64'

export interface TestEc2 extends AsyncDisposable {
  readonly moto: Moto
  readonly gaps: Ec2Gaps
  /** The EBS direct APIs. */
  readonly ebs: EbsDirect
  /** For what a test makes or looks at by hand; goes through the stand-in as all else does. */
  client(region?: string): EC2Client
  /** An image as Packer leaves one: of an instance, with tags on it and on its snapshot. */
  makeImage(options?: {
    tags?: Record<string, string>
    name?: string
    region?: string
  }): Promise<{ id: string; snapshot: string }>
}

/** moto's EC2 behind the stand-in; this process's own clients go there until it is disposed of. */
export async function startEc2(): Promise<TestEc2> {
  const moto = await startMoto()
  const gaps = await startEc2Gaps(moto.endpoint)
  const ebs = await startEbsDirect(moto.endpoint, gaps.store)
  const environment = new Environment()
  for (const [name, value] of Object.entries(moto.env)) environment.set(name, value)
  environment.set('AWS_ENDPOINT_URL_EC2', gaps.endpoint)
  environment.set('AWS_ENDPOINT_URL_EBS', ebs.endpoint)
  const clients = new Map<string, EC2Client>()
  const client = (region = MOTO_REGION): EC2Client => {
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
    const found = clients.get(region) ?? new EC2Client({ region, endpoint: gaps.endpoint, credentials, maxAttempts: 1 })
    clients.set(region, found)
    return found
  }
  return {
    moto,
    gaps,
    ebs,
    client,
    async makeImage({ tags = {}, name = uniqueName('image'), region = MOTO_REGION } = {}) {
      const ec2 = client(region)
      const Filters = [{ Name: 'name', Values: [BASE] }]
      const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ['amazon'], Filters }))
      const { Instances = [] } = await ec2.send(
        new RunInstancesCommand({ ImageId: Images[0]!.ImageId, MinCount: 1, MaxCount: 1, InstanceType: 't3.small' }),
      )
      const InstanceId = Instances[0]!.InstanceId!
      const { ImageId: id } = await ec2.send(new CreateImageCommand({ InstanceId, Name: name }))
      await ec2.send(new TerminateInstancesCommand({ InstanceIds: [InstanceId] }))
      const { Images: made = [] } = await ec2.send(new DescribeImagesCommand({ ImageIds: [id!] }))
      const snapshot = made[0]!.BlockDeviceMappings![0]!.Ebs!.SnapshotId!
      const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))
      if (Tags.length > 0) await ec2.send(new CreateTagsCommand({ Resources: [id!, snapshot], Tags }))
      return { id: id!, snapshot }
    },
    async [Symbol.asyncDispose]() {
      environment[Symbol.dispose]()
      for (const each of clients.values()) each.destroy()
      // Each may say at its end what it was asked and didn't know.
      await using _stack = new AsyncDisposableStack()
      for (const each of [gaps, moto, ebs]) _stack.use(each)
    },
  }
}
