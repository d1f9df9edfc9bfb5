import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { packerAmiBaker } from '../../src/ami/packer-ami-baker.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2BuilderGroups } from '../../src/io/ec2-builder-group.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../src/io/ec2-instances.ts'
import { amiPlan, serviceOf } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION } from '../support/moto.ts'

let world: TestEc2
let id: string
beforeAll(async () => {
  world = await startEc2()
  id = (await world.makeImage()).id
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  world.gaps.denied.clear()
  world.gaps.changes.length = 0
})

/** As it is on AWS; Packer isn't asked for anything yet. */
function prevalidate() {
  const ec2 = new Ec2(MOTO_REGION)
  const at = { images: new Ec2Images(ec2), instances: new Ec2Instances(ec2), groups: new Ec2BuilderGroups(ec2) }
  const baker = packerAmiBaker({ ...at, place: { emulated: false } } as never)
  return baker.prevalidate(amiPlan({ base: { id }, services: [serviceOf('web')] }), new AbortController().signal)
}

test('whether an instance and its security group may be made is asked without making them', async () => {
  const before = { ...world.gaps.calls }
  await prevalidate()
  expect(world.gaps.calls).toMatchObject({ RunInstances: (before.RunInstances ?? 0) + 1, CreateSecurityGroup: 1 })
  expect(world.gaps.changes).toEqual([])
})

test.for([
  ['RunInstances', 'ec2:RunInstances and ec2:CreateTags'],
  ['CreateSecurityGroup', 'ec2:CreateSecurityGroup and ec2:CreateTags'],
] as const)('without permission for %s the action is named', async ([action, named]) => {
  world.gaps.denied.add(action)
  await expect(prevalidate()).rejects.toMatchObject({
    code: 'ec2_denied',
    exit: 4,
    next: expect.stringContaining(`allow ${named} for`),
  })
})
