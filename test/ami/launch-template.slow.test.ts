import {
  CreateLaunchTemplateCommand,
  CreateLaunchTemplateVersionCommand,
  DescribeLaunchTemplateVersionsCommand,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { templateVersion } from '../../src/ami/launch-template.ts'
import type { MachineEvent } from '../../src/ami/machine.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Templates } from '../../src/io/ec2-templates.ts'
import { amiPlan, serviceOf } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

let world: TestEc2
let told: MachineEvent[]
let at: Parameters<typeof templateVersion>[3]
beforeAll(async () => {
  world = await startEc2()
  const ec2 = new Ec2(MOTO_REGION)
  const images = new Ec2Images(ec2, { pollMs: 1 })
  at = { images, templates: new Ec2Templates(ec2), signal: new AbortController().signal, tell: (event) => told.push(event) }
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(() => {
  told = []
  world.gaps.denied.clear()
  world.gaps.calls.CreateLaunchTemplateVersion = 0
})

const bakedAmi = async (proven = 'true') => {
  const { id, snapshot } = await world.makeImage({ tags: { 'bake:proven': proven } })
  return { kind: 'ami' as const, region: MOTO_REGION, id, snapshots: [snapshot] }
}
const make = async (
  name: string,
  release: string,
  options: { makeDefault?: boolean; baked?: Awaited<ReturnType<typeof bakedAmi>> } = {},
) => {
  const baked = options.baked ?? (await bakedAmi())
  const plan = amiPlan({ definition: { launchTemplate: name }, release, services: [serviceOf('web', { imds: true })] })
  return { baked, made: await templateVersion(baked, plan, { makeDefault: options.makeDefault ?? false }, at) }
}
const versionsOf = async (name: string) => {
  const { LaunchTemplateVersions = [] } = await world
    .client()
    .send(new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateName: name }))
  return LaunchTemplateVersions
}
const userDataOf = (text: string | undefined) => Buffer.from(text ?? '', 'base64').toString()

test('a template that is missing is made: type, IMDSv2, the release in tags, user-data and description', async () => {
  const name = uniqueName('shop')
  const { baked, made } = await make(name, 'v1')
  expect(made).toEqual({ name, version: 1, isDefault: true, found: false })
  const [first] = await versionsOf(name)
  expect(first).toMatchObject({
    VersionNumber: 1,
    DefaultVersion: true,
    VersionDescription: expect.stringContaining('shop v1 (111111111111)'),
  })
  const { LaunchTemplateData: data } = first!
  expect(data).toMatchObject({
    ImageId: baked.id,
    InstanceType: 't3.small',
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 2, InstanceMetadataTags: 'enabled' },
  })
  const instance = data?.TagSpecifications?.find(({ ResourceType }) => ResourceType === 'instance')
  expect(instance?.Tags).toEqual([
    { Key: 'bake:release', Value: 'v1' },
    { Key: 'bake:sha', Value: '1'.repeat(40) },
  ])
  expect(userDataOf(data?.UserData)).toBe(`#cloud-config\n#bake release=v1 sha=${'1'.repeat(40)}\n`)
  expect(told).toMatchObject([{ level: 'warning', text: expect.stringContaining('security groups') }])
})

test('a version is its predecessor with image and release changed, and not the default', async () => {
  const name = uniqueName('shop')
  const script = '#!/bin/sh\necho mine > /etc/shop/web.env\n'
  const theirs = {
    ImageId: 'ami-12c6146b',
    InstanceType: 'c7i.large' as const,
    KeyName: 'ops',
    SecurityGroupIds: ['sg-1'],
    IamInstanceProfile: { Name: 'shop' },
    UserData: Buffer.from(script).toString('base64'),
    TagSpecifications: [{ ResourceType: 'instance' as const, Tags: [{ Key: 'team', Value: 'a' }] }],
  }
  await world.client().send(new CreateLaunchTemplateCommand({ LaunchTemplateName: name, LaunchTemplateData: theirs }))
  const { baked, made } = await make(name, 'v2')
  expect(made).toEqual({ name, version: 2, isDefault: false, found: false })
  const second = (await versionsOf(name)).find(({ VersionNumber }) => VersionNumber === 2)!
  const { UserData, ...data } = second.LaunchTemplateData!
  expect(data).toMatchObject({
    ImageId: baked.id,
    InstanceType: 'c7i.large',
    KeyName: 'ops',
    SecurityGroupIds: ['sg-1'],
    IamInstanceProfile: { Name: 'shop' },
  })
  expect(data.TagSpecifications?.[0]?.Tags).toEqual([
    { Key: 'team', Value: 'a' },
    { Key: 'bake:release', Value: 'v2' },
    { Key: 'bake:sha', Value: '1'.repeat(40) },
  ])
  expect(userDataOf(UserData)).toBe(`${script}#bake release=v2 sha=${'1'.repeat(40)}\n`)
  expect((await versionsOf(name)).find(({ DefaultVersion }) => DefaultVersion)?.VersionNumber).toBe(1)

  const next = await make(name, 'v3')
  const third = (await versionsOf(name)).find(({ VersionNumber }) => VersionNumber === next.made?.version)!
  expect(userDataOf(third.LaunchTemplateData?.UserData)).toBe(`${script}#bake release=v3 sha=${'1'.repeat(40)}\n`)
})

test('asked again there is nothing to make; a default is set when told', async () => {
  const name = uniqueName('shop')
  await make(name, 'v1')
  const { baked, made } = await make(name, 'v2')
  const again = await make(name, 'v2', { baked })
  expect(again.made).toEqual({ ...made, found: true })
  expect(world.gaps.calls.CreateLaunchTemplateVersion).toBe(1)
  const told = await make(name, 'v2', { baked, makeDefault: true })
  expect(told.made).toEqual({ name, version: 2, isDefault: true, found: true })
  expect((await versionsOf(name)).find(({ DefaultVersion }) => DefaultVersion)?.VersionNumber).toBe(2)
})

test('what somebody changed by hand since then is taken on, also for a release that has a version', async () => {
  const name = uniqueName('shop')
  const { baked } = await make(name, 'v1')
  await world.client().send(
    new CreateLaunchTemplateVersionCommand({
      LaunchTemplateName: name,
      SourceVersion: '1',
      LaunchTemplateData: { InstanceType: 'c7i.xlarge' },
    }),
  )
  const next = await make(name, 'v2')
  expect(next.made).toMatchObject({ version: 3, found: false })
  expect((await versionsOf(name)).find(({ VersionNumber }) => VersionNumber === 3)?.LaunchTemplateData).toMatchObject({
    ImageId: next.baked.id,
    InstanceType: 'c7i.xlarge',
  })
  // The one that was made by hand is what would be made: the newest, with the image and the name of v1.
  expect((await make(name, 'v1', { baked })).made).toMatchObject({ version: 2, found: true })
})

test('packed user-data stays as it is, which is told', async () => {
  const name = uniqueName('shop')
  const packed = Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3]).toString('base64')
  const LaunchTemplateData = { ImageId: 'ami-12c6146b', UserData: packed }
  await world.client().send(new CreateLaunchTemplateCommand({ LaunchTemplateName: name, LaunchTemplateData }))
  const { made } = await make(name, 'v2')
  const second = (await versionsOf(name)).find(({ VersionNumber }) => VersionNumber === made?.version)!
  expect(second.LaunchTemplateData?.UserData).toBe(packed)
  expect(told).toMatchObject([{ level: 'warning', text: expect.stringContaining('bake-release') }])
})

test('a project without a launch template has none', async () => {
  expect(await templateVersion(await bakedAmi(), amiPlan(), { makeDefault: true }, at)).toBeUndefined()
})

describe('nothing is made', () => {
  test('of an image that is not proven: that is said, and refused when it should become the default', async () => {
    const name = uniqueName('shop')
    const baked = await bakedAmi('false')
    expect((await make(name, 'v1', { baked })).made).toBeUndefined()
    expect(told).toMatchObject([{ level: 'warning', text: expect.stringMatching(/is not proven.*bake verify v1/) }])
    await expect(make(name, 'v1', { baked, makeDefault: true })).rejects.toMatchObject({ code: 'not_proven', exit: 2 })
    expect(await at.templates.get(name)).toBeUndefined()
  })

  test.for(['CreateLaunchTemplate', 'DescribeLaunchTemplates'])('without permission for %s, which is named', async (action) => {
    const name = uniqueName('shop')
    world.gaps.denied.add(action)
    await expect(make(name, 'v1')).rejects.toMatchObject({ code: 'ec2_denied', next: expect.stringContaining(`ec2:${action} `) })
    world.gaps.denied.clear()
    expect(await at.templates.get(name)).toBeUndefined()
  })

  test('without permission for a version, or for the default', async () => {
    const name = uniqueName('shop')
    await make(name, 'v1')
    world.gaps.denied.add('CreateLaunchTemplateVersion')
    await expect(make(name, 'v2')).rejects.toMatchObject({
      code: 'ec2_denied',
      next: expect.stringContaining('ec2:CreateLaunchTemplateVersion'),
    })
    world.gaps.denied.clear()
    world.gaps.denied.add('ModifyLaunchTemplate')
    await expect(make(name, 'v2', { makeDefault: true })).rejects.toMatchObject({
      next: expect.stringContaining('ec2:ModifyLaunchTemplate'),
    })
    expect((await versionsOf(name)).find(({ DefaultVersion }) => DefaultVersion)?.VersionNumber).toBe(1)
  })
})
