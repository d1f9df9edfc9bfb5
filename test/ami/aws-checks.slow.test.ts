import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { findAmi } from '../../src/ami/ami-base.ts'
import { checkAws } from '../../src/ami/check-aws.ts'
import type { MachineEvent, MachinePlan } from '../../src/ami/machine.ts'
import { AwsProofNetwork } from '../../src/io/aws-proof-network.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import type { Ec2Image } from '../../src/io/ec2-image.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../src/io/ec2-instances.ts'
import { Ec2Network } from '../../src/io/ec2-network.ts'
import { Ec2Templates } from '../../src/io/ec2-templates.ts'
import { desiredResources } from '../../src/setup/desired.ts'
import { amiPlan, serviceOf } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION } from '../support/moto.ts'

const BASE = { owner: 'amazon', name: 'al2023-ami-2023*' }
let world: TestEc2
let images: Ec2Images
let told: MachineEvent[]
const lookup = () => ({ images, tell: (event: MachineEvent) => told.push(event) })

beforeAll(async () => {
  world = await startEc2()
  images = new Ec2Images(new Ec2(MOTO_REGION))
  const machine = { project: 'shop', region: MOTO_REGION, copies: [] }
  await new AwsProofNetwork(MOTO_REGION).create(desiredResources({ partition: 'aws', machine })[0]!)
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  told = []
  world.gaps.denied.clear()
  world.gaps.changes.length = 0
})

describe('the base', () => {
  test('is the newest that a name fits, of the architecture that is asked for', async () => {
    const [newest] = await images.find(BASE, 'arm64')
    expect(await findAmi(BASE, { ...lookup(), architecture: 'arm64' })).toEqual({
      ...{
        kind: 'ami',
        id: newest!.id,
        region: MOTO_REGION,
        name: newest!.name,
        ownerId: newest!.ownerId,
        architecture: 'arm64',
      },
      ...{
        createdAt: newest!.createdAt,
        rootDevice: newest!.rootDevice,
        virtualBytes: newest!.rootBytes,
        bootMode: newest!.bootMode,
      },
    })
    expect(told).toEqual([])
  })

  test('can be named by its id', async () => {
    const { id } = await findAmi(BASE, lookup())
    expect(await findAmi({ id }, lookup())).toMatchObject({ id, architecture: expect.stringMatching(/^(?:amd64|arm64)$/) })
  })

  test('that nothing fits is refused with the filter, and how to look', async () => {
    await expect(findAmi({ owner: 'amazon', name: 'no-such-*' }, lookup())).rejects.toMatchObject({
      code: 'base_missing',
      exit: 2,
      message: expect.stringMatching(/us-east-1 of owner amazon has a name like no-such-\*/),
      next: expect.stringContaining("--owners amazon --filters 'Name=name,Values=no-such-*'"),
    })
    await expect(findAmi({ id: 'ami-00000000000000000' }, lookup())).rejects.toMatchObject({ code: 'base_missing' })
  })

  const odd = async (more: Partial<Ec2Image>) => {
    const [image] = await images.find(BASE)
    return findAmi(
      { id: image!.id },
      { ...lookup(), images: { region: MOTO_REGION, find: async () => [{ ...image!, ...more }] } },
    )
  }
  test.for([
    ['a Mac’s', { architecture: 'arm64_mac' }, /arm64_mac/],
    ['Windows', { platform: 'windows' }, /Windows/],
    ['without a volume', { rootDeviceType: 'instance-store' }, /instance-store/],
    ['that isn’t ready', { state: 'pending' }, /is pending/],
  ] as [string, Partial<Ec2Image>, RegExp][])('%s is refused', async ([, more, message]) => {
    await expect(odd(more)).rejects.toMatchObject({ code: 'base_unfit', exit: 2, message: expect.stringMatching(message) })
  })

  test('with product codes, or deprecated, is taken, and that is said', async () => {
    await odd({ productCodes: ['abc123'], deprecatedAt: Date.UTC(2026, 0, 2) })
    expect(told).toMatchObject([
      { level: 'warning', text: expect.stringMatching(/abc123.*subscribe/) },
      { level: 'warning', text: expect.stringContaining('2026-01-02') },
    ])
  })
})

describe('before anything is made', () => {
  const check = async (options: Parameters<typeof amiPlan>[0] = {}, verify = true): Promise<void> => {
    const base = await findAmi({ owner: 'amazon', name: 'al2023-ami-2023*' }, { ...lookup(), architecture: 'amd64' })
    const plan: MachinePlan = { ...amiPlan({ services: [serviceOf('web')], ...options }), base }
    const ec2 = new Ec2(base.region)
    await checkAws(plan, 'packer', verify, {
      instances: new Ec2Instances(ec2),
      network: new Ec2Network(ec2),
      templates: new Ec2Templates(ec2),
      images: (region) => new Ec2Images(new Ec2(region)),
    })
  }

  test('what can be baked is passed, and nothing was made to find out', async () => {
    await check({ ami: { regions: ['eu-west-1'], shareWith: ['111122223333'] } })
    expect(world.gaps.calls.RunInstances).toBeGreaterThan(0)
    expect(world.gaps.calls.CopyImage).toBeGreaterThan(0)
    expect(world.gaps.changes).toEqual([])
  })

  test.for([
    ['another processor’s', 'c7g.large', /c7g\.large: it is arm64, and the base ami-\w+ .* is x86_64/],
    ['nobody’s', 'c7x.large', /there is no such instance type in us-east-1/],
  ] as const)('an instance type that is %s is refused', async ([, instanceType, message]) => {
    await expect(check({ definition: { instanceType } })).rejects.toMatchObject({
      code: 'bad_instance_type',
      exit: 2,
      message: expect.stringMatching(message),
    })
  })

  test('options that can’t be had are refused', async () => {
    await expect(check({ ami: { bootMode: 'uefi' } })).rejects.toMatchObject({ code: 'bad_ami_options' })
  })

  test.for([
    ['RunInstances', 'ec2:RunInstances and ec2:CreateTags'],
    ['CreateTags', 'ec2:RunInstances and ec2:CreateTags'],
    ['CopyImage', 'ec2:CopyImage and ec2:CreateTags'],
    ['DescribeInstanceTypes', 'ec2:DescribeInstanceTypes'],
    ['DescribeSubnets', 'ec2:DescribeSubnets'],
  ] as const)('without permission for %s the action is named', async ([action, named]) => {
    world.gaps.denied.add(action)
    await expect(check({ ami: { regions: ['eu-west-1'] } })).rejects.toMatchObject({
      code: 'ec2_denied',
      exit: 4,
      next: expect.stringContaining(`allow ${named} for`),
    })
    expect(world.gaps.changes).toEqual([])
  })

  test('what isn’t proven needs no network for proofs, nor the right to start an instance there', async () => {
    world.gaps.denied.add('RunInstances')
    await check({}, false)
  })
})
