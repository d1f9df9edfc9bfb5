import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AutoScalingClient, CreateAutoScalingGroupCommand, CreateLaunchConfigurationCommand } from '@aws-sdk/client-auto-scaling'
import {
  CreateKeyPairCommand,
  CreateLaunchTemplateCommand,
  CreateLaunchTemplateVersionCommand,
  CreateSecurityGroupCommand,
  CreateSnapshotCommand,
  CreateTagsCommand,
  CreateVolumeCommand,
  DeregisterImageCommand,
  DescribeSnapshotsCommand,
  RunInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { amiName } from '../../src/ami/ami-name.ts'
import { templateVersion } from '../../src/ami/launch-template.ts'
import { prunePart } from '../../src/ami/prune.ts'
import { type AwsPruneWorld, awsPart, type PruneRegion } from '../../src/ami/prune-aws.ts'
import { documentDigest, type MachineDocument, writeBake } from '../../src/ami/records.ts'
import { GroupImages } from '../../src/io/autoscaling-images.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../src/io/ec2-instances.ts'
import { Ec2Leftovers } from '../../src/io/ec2-leftovers.ts'
import { Ec2Templates } from '../../src/io/ec2-templates.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { append, readClaims } from '../../src/jobs/claims.ts'
import { keys, newBuildId } from '../../src/names.ts'
import { amiPlan } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

const EAST = MOTO_REGION
const WEST = 'eu-west-1'
const DAY_MS = 86_400_000
const COMMIT = '1'.repeat(40)

let world: TestEc2
let dir: string
let ledger: DirectoryLedger
let project: string
const opened = new Map<string, PruneRegion>()

const home = new Ec2Images(new Ec2(EAST))
const region = (name: string): PruneRegion => {
  const ec2 = new Ec2(name)
  const made = opened.get(name) ?? {
    images: new Ec2Images(ec2),
    instances: new Ec2Instances(ec2),
    leftovers: new Ec2Leftovers(ec2),
    templates: new Ec2Templates(ec2),
    groups: new GroupImages(name),
  }
  opened.set(name, made)
  return made
}
const part = (more: Partial<AwsPruneWorld> = {}) =>
  awsPart({
    ...{ project, regions: [EAST, WEST], region, ledger, stateDir: dir, has: async () => true },
    ended: ({ pid }) => pid === 0,
    delivered: async () => new Set<string>(),
    ...more,
  })
const pass = async (more: Partial<AwsPruneWorld> = {}, dryRun = false) => {
  const pruned = await prunePart(part(more), ledger, { dryRun })
  return pruned.map(({ did, kind }) => `${did} ${kind}`).sort()
}

beforeAll(async () => {
  world = await startEc2()
}, 180_000)
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-prune-'))
  ledger = new DirectoryLedger(dir)
  project = uniqueName('shop')
  world.gaps.denied.clear()
  return () => rm(dir, { recursive: true })
})

type Status = 'running' | 'baked' | 'failed'
/** A run that is recorded; `pid` 0: its process has ended. */
async function recordRun(status: Status, { inputs = 'a', pid = 0, release = 'v1', id = newBuildId() } = {}): Promise<string> {
  const common = { version: 1, build: id, project, release, commit: COMMIT, inputs: inputs.repeat(64), status } as const
  const process = { host: 'here', pid, start: '1' }
  await writeBake(ledger, { ...common, owner: `bake-${id}`, leaseMs: 60_000, claim: 0, by: 'me', process, startedAt: 1 })
  return id
}
const tagged = (run: string, more: Record<string, string> = {}) => ({ 'bake:project': project, 'bake:run': run, ...more })
const tagList = (tags: Record<string, string>) => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))

/** All that a bake that was killed in the middle may leave. */
async function leaveEverything(run: string) {
  const ec2 = world.client()
  const Tags = tagList(tagged(run))
  const spec = <Kind extends string>(ResourceType: Kind) => [{ ResourceType, Tags }]
  const image = await world.makeImage({ tags: tagged(run, { 'bake:proven': 'false' }) })
  const { Instances } = await ec2.send(
    new RunInstancesCommand({
      ImageId: image.id,
      MinCount: 1,
      MaxCount: 1,
      InstanceType: 't3.small',
      TagSpecifications: spec('instance'),
    }),
  )
  const volume = await ec2.send(
    new CreateVolumeCommand({ AvailabilityZone: `${EAST}a`, Size: 1, TagSpecifications: spec('volume') }),
  )
  await ec2.send(new CreateSnapshotCommand({ VolumeId: volume.VolumeId, TagSpecifications: spec('snapshot') }))
  await ec2.send(new CreateKeyPairCommand({ KeyName: uniqueName('packer'), TagSpecifications: spec('key-pair') }))
  await ec2.send(
    new CreateSecurityGroupCommand({
      GroupName: uniqueName('packer'),
      Description: 'x',
      TagSpecifications: spec('security-group'),
    }),
  )
  return { image, instance: Instances![0]!.InstanceId! }
}
const leftOf = async (run: string) => {
  const found = await Promise.all(
    [EAST, WEST].map(async (name) => {
      const at = region(name)
      const instances = await at.instances.tagged(tagged(run))
      return [
        ...(await at.images.tagged(tagged(run))).map(() => 'ami'),
        ...instances.filter(({ state }) => state !== 'terminated').map(() => 'instance'),
        ...(await at.leftovers.tagged(tagged(run))).map(({ kind }) => kind),
      ]
    }),
  )
  return found.flat().sort()
}
const EVERYTHING = ['ami', 'instance', 'key-pair', 'security-group', 'snapshot', 'snapshot', 'volume']

describe('what a run left that is over', () => {
  test('is marked, and gone after later passes; what others have stays', async () => {
    const run = await recordRun('running')
    await leaveEverything(run)
    const theirs = await world.makeImage({ tags: { 'bake:project': 'another', 'bake:run': run } })
    expect(await leftOf(run)).toEqual(EVERYTHING)
    // The instance still runs from the image.
    const first = ['instance', 'key pair', 'security group', 'snapshot', 'volume']
    expect(await pass({}, true)).toEqual(first.map((kind) => `marked ${kind}`))
    expect(await pass()).toEqual(first.map((kind) => `marked ${kind}`))
    expect(await leftOf(run)).toEqual(EVERYTHING)
    expect(await pass({}, true)).toEqual(first.map((kind) => `deleted ${kind}`))
    expect(await leftOf(run)).toEqual(EVERYTHING)
    expect(await pass()).toEqual(first.map((kind) => `deleted ${kind}`))
    expect(await pass()).toEqual(['marked ami'])
    expect(await pass()).toEqual(['deleted ami'])
    expect(await leftOf(run)).toEqual([])
    expect(await pass()).toEqual([])
    expect(await home.get(theirs.id)).toBeDefined()
  })

  test('a failed run counts as over too', async () => {
    const run = await recordRun('failed')
    await world.makeImage({ tags: tagged(run) })
    await pass()
    expect(await pass()).toEqual(['deleted ami'])
    expect(await leftOf(run)).toEqual([])
  })

  test('while its process lives, or it is young and nobody here knows better, all of it stays', async () => {
    const alive = await recordRun('running', { pid: 1 })
    await ledger.touch(keys.beat(`bake-${alive}`))
    const young = newBuildId()
    for (const run of [alive, young]) await leaveEverything(run)
    expect(await pass()).toEqual([])
    // A day later the one still beats, and of the other there is no record: what costs money goes, an image may be another ledger's.
    const now = () => Date.now() + 1.5 * DAY_MS
    const transient = ['instance', 'key pair', 'security group', 'volume']
    expect(await pass({ now })).toEqual(transient.map((kind) => `marked ${kind}`))
    await pass({ now })
    expect(await leftOf(alive)).toEqual(EVERYTHING)
    expect(await leftOf(young)).toEqual(['ami', 'snapshot', 'snapshot'])
  })

  test('what nobody’s run made is left alone', async () => {
    await world.makeImage({ tags: tagged('not-a-run') })
    expect(await pass({ now: () => Date.now() + 10 * DAY_MS })).toEqual([])
  })

  test('an instance that a group started is no builder', async () => {
    const run = await recordRun('failed')
    const { instance } = await leaveEverything(run)
    // Only Auto Scaling sets such a tag; moto takes it from anybody.
    const Tags = [{ Key: 'aws:autoscaling:groupName', Value: 'web' }]
    await world.client().send(new CreateTagsCommand({ Resources: [instance], Tags }))
    expect(await pass()).toEqual(['key pair', 'security group', 'snapshot', 'volume'].map((kind) => `marked ${kind}`))
  })
})

/** A release with its published image, and a copy of it. */
async function publish(release: string, inputs: string, { copy = false } = {}) {
  const run = await recordRun('baked', { inputs, release })
  const hash = inputs.repeat(64)
  const tags = tagged(run, { 'bake:inputs': hash, 'bake:proven': 'true' })
  const made = await world.makeImage({ tags })
  const there = copy ? await world.makeImage({ tags: { ...tags, 'bake:copy-of': made.id }, region: WEST }) : undefined
  const copies = there && [{ region: WEST, id: there.id, snapshots: [there.snapshot] }]
  const document: MachineDocument = {
    ...{ version: 1, build: run, inputs: hash, project, release, commit: COMMIT, architecture: 'amd64', baker: 'packer' },
    base: { kind: 'ami', region: EAST, id: 'ami-1', name: 'base', createdAt: 1 },
    services: [],
    image: { kind: 'ami', region: EAST, id: made.id, snapshots: [made.snapshot], ...(copies && { copies }) },
    phases: [],
    ...{ startedAt: 1, bakedAt: Date.now() },
  }
  await ledger.put(keys.machine(hash, 0), document)
  const owner = `bake-${run}`
  const claimed = await append(ledger, await readClaims(ledger, hash), { state: 'claimed', build: run, owner, leaseMs: 60_000 })
  await append(ledger, claimed!, { state: 'published', build: run, owner, digest: documentDigest(document), sizeBytes: 0 })
  const createdAt = Number(release.slice(1))
  await ledger.create(keys.release(release), {
    version: 1,
    name: release,
    project,
    commit: COMMIT,
    createdAt,
    images: [],
    standIns: [],
  })
  await ledger.put(keys.releaseMachine(release, hash), { version: 1, release, inputs: hash, image: made.id, at: 1 })
  return { run, hash, id: made.id, copy: there?.id }
}

describe('images of releases', () => {
  test('stay, all of them, unless told how many to keep', async () => {
    for (const [release, inputs] of [
      ['v1', 'a'],
      ['v2', 'b'],
      ['v3', 'c'],
    ] as const)
      await publish(release, inputs, { copy: true })
    expect(await pass()).toEqual([])
    expect(await pass({ keep: 3 })).toEqual([])
  })

  test('older than the newest that are kept go, with their copies, and are withdrawn first', async () => {
    const old = await publish('v1', 'a', { copy: true })
    const kept = await publish('v2', 'b', { copy: true })
    expect(await pass({ keep: 1 })).toEqual(['marked ami', 'marked ami'])
    expect(await pass({ keep: 1 })).toEqual(['deleted ami', 'deleted ami'])
    expect(await leftOf(old.run)).toEqual([])
    expect(await leftOf(kept.run)).toEqual(['ami', 'ami', 'snapshot', 'snapshot'])
    expect((await readClaims(ledger, old.hash)).head).toMatchObject({ state: 'withdrawn', reason: 'missing' })
    expect((await readClaims(ledger, kept.hash)).head).toMatchObject({ state: 'published' })
  })

  test('that two releases share stay while one of them is kept', async () => {
    const { hash, id } = await publish('v1', 'a')
    await publish('v2', 'b')
    await ledger.create(keys.release('v3'), {
      version: 1,
      name: 'v3',
      project,
      commit: COMMIT,
      createdAt: 3,
      images: [],
      standIns: [],
    })
    await ledger.put(keys.releaseMachine('v3', hash), { version: 1, release: 'v3', inputs: hash, image: id, at: 1 })
    expect(await pass({ keep: 1 })).toEqual(['marked ami'])
    await pass({ keep: 1 })
    expect(await home.get(id)).toBeDefined()
  })

  test('that are baked anew right now stay', async () => {
    const old = await publish('v1', 'a')
    await publish('v2', 'b')
    const owner = 'bake-other'
    await ledger.touch(keys.beat(owner))
    await append(ledger, await readClaims(ledger, old.hash), { state: 'claimed', build: newBuildId(), owner, leaseMs: 60_000 })
    expect(await pass({ keep: 1 })).toEqual([])
  })
})

describe('launch template versions', () => {
  const templates = new Ec2Templates(new Ec2(EAST))
  const signal = new AbortController().signal
  /** One release after the other, each with a version. */
  const publishAll = async (name: string, releases: string[]) => {
    const made: { id: string }[] = []
    for (const [at, release] of releases.entries()) {
      const inputs = 'abcdef'[at]!
      const published = await publish(release, inputs)
      const plan = { ...amiPlan({ definition: { launchTemplate: name }, release, inputs }), project }
      const baked = { kind: 'ami' as const, region: EAST, id: published.id, snapshots: [] }
      const images = new Ec2Images(new Ec2(EAST), { pollMs: 1 })
      await templateVersion(baked, plan, { makeDefault: false }, { images, templates, signal, tell() {} })
      made.push(published)
    }
    return made
  }
  const numbers = async (name: string) => (await templates.versions(name)).map(({ number }) => number)

  test('of older releases go, and then their images; the default, the newest and those of others stay', async () => {
    const name = uniqueName('shop')
    const made = await publishAll(name, ['v1', 'v2', 'v3', 'v4'])
    const theirs = { LaunchTemplateName: name, SourceVersion: '2', LaunchTemplateData: { InstanceType: 'c7i.large' as const } }
    const { id } = await world.makeImage()
    const LaunchTemplateData = { ...theirs.LaunchTemplateData, ImageId: id }
    await world
      .client()
      .send(new CreateLaunchTemplateVersionCommand({ ...theirs, LaunchTemplateData, VersionDescription: 'by hand' }))
    expect(await pass()).toEqual([])
    // 1 is the default.
    expect(await pass({ keep: 1 })).toEqual(['marked launch template version', 'marked launch template version'])
    expect(await numbers(name)).toEqual([5, 4, 3, 2, 1])
    await pass({ keep: 1 })
    expect(await numbers(name)).toEqual([5, 4, 1])
    expect(await pass({ keep: 1 })).toEqual(['marked ami', 'marked ami'])
    await pass({ keep: 1 })
    expect(await Promise.all(made.map(async (image) => (await home.get(image.id)) !== undefined))).toEqual([
      true,
      false,
      false,
      true,
    ])
  })

  test('that a stack runs or goes back to stay', async () => {
    const name = uniqueName('shop')
    await publishAll(name, ['v1', 'v2', 'v3', 'v4'])
    const id = (await templates.get(name))!.id
    expect(await pass({ keep: 1, delivered: async () => new Set([`${id} 2`]) })).toEqual(['marked launch template version'])
  })

  test('that a group or an instance is of stay', async () => {
    const name = uniqueName('shop')
    await publishAll(name, ['v1', 'v2', 'v3', 'v4'])
    const client = new AutoScalingClient({
      region: EAST,
      endpoint: world.moto.endpoint,
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    })
    const LaunchTemplate = { LaunchTemplateName: name, Version: '2' }
    const size = { MinSize: 0, MaxSize: 0, AvailabilityZones: [`${EAST}a`] }
    await client.send(new CreateAutoScalingGroupCommand({ AutoScalingGroupName: uniqueName('web'), LaunchTemplate, ...size }))
    client.destroy()
    const { Instances } = await world
      .client()
      .send(new RunInstancesCommand({ LaunchTemplate: { LaunchTemplateName: name, Version: '3' }, MinCount: 1, MaxCount: 1 }))
    // EC2 marks instances so; Debian's moto doesn't.
    const id = (await templates.get(name))!.id
    const Tags = tagList({ 'aws:ec2launchtemplate:id': id, 'aws:ec2launchtemplate:version': '3' })
    await world.client().send(new CreateTagsCommand({ Resources: [Instances![0]!.InstanceId!], Tags }))
    expect(await pass({ keep: 1 })).toEqual([])
  })
})

describe('an image stays that is named', () => {
  const spare = async () => {
    const { id, copy } = await publish('v1', 'a', { copy: true })
    await publish('v2', 'b')
    return { id, copy: copy! }
  }
  const uses: [string, (image: { id: string; copy: string }) => Promise<unknown>][] = [
    [
      'by any version of a launch template',
      ({ id: ImageId }) =>
        world
          .client()
          .send(new CreateLaunchTemplateCommand({ LaunchTemplateName: uniqueName('lt'), LaunchTemplateData: { ImageId } })),
    ],
    [
      'by a launch template of another region, through its copy',
      ({ copy: ImageId }) =>
        world
          .client(WEST)
          .send(new CreateLaunchTemplateCommand({ LaunchTemplateName: uniqueName('lt'), LaunchTemplateData: { ImageId } })),
    ],
    [
      'by a launch configuration',
      async ({ id: ImageId }) => {
        const client = new AutoScalingClient({
          region: EAST,
          endpoint: world.moto.endpoint,
          credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
        })
        await client.send(
          new CreateLaunchConfigurationCommand({ LaunchConfigurationName: uniqueName('lc'), ImageId, InstanceType: 't3.small' }),
        )
        client.destroy()
      },
    ],
    [
      'by an instance, a stopped one too',
      async ({ id: ImageId }) => {
        const { Instances } = await world
          .client()
          .send(new RunInstancesCommand({ ImageId, MinCount: 1, MaxCount: 1, InstanceType: 't3.small' }))
        await world.client().send(new StopInstancesCommand({ InstanceIds: [Instances![0]!.InstanceId!] }))
      },
    ],
    ['because it is shared with an account', ({ id }) => new Ec2Images(new Ec2(EAST)).share(id, ['111122223333'])],
    ['because its copy is shared', ({ copy }) => new Ec2Images(new Ec2(WEST)).share(copy, ['111122223333'])],
    ['because it is protected', ({ id }) => new Ec2Images(new Ec2(EAST)).protect(id)],
  ]
  test.for(uses)('%s', async ([, use]) => {
    await use(await spare())
    expect(await pass({ keep: 1 })).toEqual([])
  })

  test.for([uses[1]!, uses[3]!, uses[5]!])('%s since it was marked', async ([, use]) => {
    const image = await spare()
    expect(await pass({ keep: 1 })).toEqual(['marked ami', 'marked ami'])
    await use(image)
    expect(await pass({ keep: 1 })).toEqual([])
    expect(await home.get(image.id)).toBeDefined()
  })

  test('between the look and the deletion', async () => {
    const image = await spare()
    await pass({ keep: 1 })
    const both = part({ keep: 1 })
    const [found] = await both.find()
    await uses[0]![1](image)
    expect(await both.remove(found!)).toBe(false)
    expect(await home.get(image.id)).toBeDefined()
  })
})

test('without permission the action is named, and what was marked stays marked', async () => {
  const run = await recordRun('failed')
  await world.makeImage({ tags: tagged(run) })
  await pass()
  world.gaps.denied.add('DeregisterImage')
  await expect(pass()).rejects.toMatchObject({ code: 'ec2_denied', next: expect.stringContaining('ec2:DeregisterImage') })
  world.gaps.denied.clear()
  expect(await pass()).toEqual(['deleted ami'])
})

test('an image that Packer had no time to tag is found by its name, which ends with its run', async () => {
  const run = await recordRun('running')
  const name = amiName({ project, inputs: 'a'.repeat(64) }, run)
  const { id, snapshot } = await world.makeImage({ name })
  const theirs = await world.makeImage({ name: `bake-${project}-by-hand` })
  expect(await pass()).toEqual(['marked ami'])
  expect(await pass()).toEqual(['deleted ami'])
  expect(await home.get(id)).toBeUndefined()
  const looked = world.client().send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshot] }))
  await expect(looked).rejects.toMatchObject({ name: 'InvalidSnapshot.NotFound' })
  expect(await home.get(theirs.id)).toBeDefined()
})

test('a snapshot whose image is gone goes as well', async () => {
  const run = await recordRun('failed')
  const { id } = await world.makeImage({ tags: tagged(run) })
  await world.client().send(new DeregisterImageCommand({ ImageId: id }))
  expect(await pass()).toEqual(['marked snapshot'])
  expect(await pass()).toEqual(['deleted snapshot'])
  expect(await leftOf(run)).toEqual([])
})
