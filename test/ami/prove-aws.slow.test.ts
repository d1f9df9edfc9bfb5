import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateLaunchTemplateCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { BakeRun, MachineEvent, MachinePlan } from '../../src/ami/machine.ts'
import { type AwsProofWorld, AwsProver } from '../../src/ami/prove-aws.ts'
import { AwsProofNetwork } from '../../src/io/aws-proof-network.ts'
import { Ebs } from '../../src/io/ebs.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Instances } from '../../src/io/ec2-instances.ts'
import { Ec2Network } from '../../src/io/ec2-network.ts'
import { Ec2Snapshots } from '../../src/io/ec2-snapshots.ts'
import { Ec2Templates } from '../../src/io/ec2-templates.ts'
import { newBuildId } from '../../src/names.ts'
import { desiredResources } from '../../src/setup/desired.ts'
import { startAwsProxy } from '../support/aws-faults.ts'
import { amiPlan, digestOf, serviceOf } from '../support/aws-plan.ts'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

const ELSEWHERE = 'eu-west-1'
let world: TestEc2
let aws: AwsProofWorld
let told: MachineEvent[]
let dir: string

const MIB = 2 ** 20
/** What `docker save` would have written: three blocks of EBS's, the second of zeros, the last not full. */
const ARCHIVE = Buffer.concat([Buffer.alloc(MIB / 2, 'a tar'), Buffer.alloc(MIB / 2), Buffer.from('its end')])

const worldOf = (region: string): AwsProofWorld => {
  const ec2 = new Ec2(region)
  return {
    images: new Ec2Images(ec2, { pollMs: 1 }),
    instances: new Ec2Instances(ec2),
    network: new Ec2Network(ec2),
    templates: new Ec2Templates(ec2),
    imagesOf: (other) => new Ec2Images(new Ec2(other)),
    standIns: async () => ({
      save: (path) => writeFile(path, ARCHIVE),
      writer: new Ebs(region),
      snapshots: new Ec2Snapshots(ec2, { pollMs: 1 }),
    }),
    pollMs: 5,
    postedWithinMs: 200,
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-prove-aws-'))
  world = await startEc2()
  aws = worldOf(MOTO_REGION)
  const machine = { project: 'shop', region: MOTO_REGION, copies: [] }
  await new AwsProofNetwork(MOTO_REGION).create(desiredResources({ partition: 'aws', machine })[0]!)
}, 180_000)
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await rm(dir, { recursive: true })
})
beforeEach(() => {
  told = []
  world.gaps.denied.clear()
  world.ebs.denied.clear()
  world.ebs.fault = () => undefined
  world.gaps.changes.length = 0
  world.gaps.console = () => ''
  world.gaps.refuse = () => undefined
})

const say = (...lines: object[]) => lines.map((line) => `\r\nbake-proof: ${JSON.stringify(line)}\r\n`).join('')
const begin = { type: 'begin', inputs: 'd'.repeat(64) }
const healthy = (name: string, seconds = 20) => ({ type: 'service', name, state: 'healthy', seconds, digest: digestOf('a') })
const end = (ok: boolean) => ({ type: 'end', ok })
const kernel = '[    0.000000] Linux version 6.1\n[    1.0] \u001b[0;32mOK\u001b[0m reached basic.target\n'

const bakedAmi = async () => {
  const { id, snapshot } = await world.makeImage({ tags: { 'bake:proven': 'false' } })
  return { kind: 'ami' as const, region: MOTO_REGION, id, snapshots: [snapshot] }
}
const newRun = (signal = new AbortController().signal): BakeRun => ({
  id: newBuildId(),
  dir,
  signal,
  tell: (event) => told.push(event),
})
const web = amiPlan({ services: [serviceOf('web'), serviceOf('jobs', { after: ['web'] })] })
const prove = (
  baked: Awaited<ReturnType<typeof bakedAmi>>,
  { plan = web, run = newRun(), at = aws }: { plan?: MachinePlan; run?: BakeRun; at?: AwsProofWorld } = {},
) => new AwsProver(at).prove(baked, plan, run)
/** The request that started the newest instance of a proof. */
const started = () => world.gaps.changes.findLast(({ action, form }) => action === 'RunInstances' && form.has('UserData'))
/** What this run left running. */
const leftOf = async ({ id }: BakeRun) =>
  (await aws.instances.tagged({ 'bake:run': id })).filter(({ state }) => state !== 'terminated')

test('an image is proven by what its instance says on the console, and tagged so with its copies', async () => {
  const baked = await bakedAmi()
  const copy = await world.makeImage({ region: ELSEWHERE })
  const copies = [{ region: ELSEWHERE, id: copy.id, snapshots: [copy.snapshot] }]
  const script = say(begin, healthy('web', 21.5), healthy('jobs', 30), end(true))
  world.gaps.console = (_, looks) => (kernel + script).slice(0, looks * 60)
  const run = newRun()
  const proof = await prove({ ...baked, copies } as never, { run })
  expect(proof).toEqual({
    at: expect.any(Number),
    standIns: [],
    boots: [
      {
        network: 'aws',
        seconds: 30,
        services: [
          { service: 'web', level: 'healthy', seconds: 21.5, digest: digestOf('a') },
          { service: 'jobs', level: 'healthy', seconds: 30, digest: digestOf('a') },
        ],
      },
    ],
  })
  expect(await leftOf(run)).toEqual([])
  expect(await aws.images.get(baked.id)).toMatchObject({ tags: { 'bake:proven': 'true' }, imdsV2: true })
  expect(await new Ec2Images(new Ec2(ELSEWHERE)).get(copy.id)).toMatchObject({ tags: { 'bake:proven': 'true' } })
  const lines = told.flatMap((event) => (event.type === 'line' ? [event.text] : []))
  expect(lines.filter((line) => line.startsWith('bake-proof:'))).toHaveLength(4)
  expect(lines[1]).toBe('[    1.0] OK reached basic.target')
})

test('its instance is alone: the proof’s subnet and security group, no address, gone with its volume when it ends', async () => {
  world.gaps.console = () => say(begin, healthy('web'), healthy('jobs'), end(true))
  const run = newRun()
  await prove(await bakedAmi(), { run })
  const { form } = started()!
  const network = (await aws.network.find())!
  expect(Object.fromEntries(form)).toMatchObject({
    'NetworkInterface.1.SubnetId': network.subnets[0]!.id,
    'NetworkInterface.1.SecurityGroupId.1': network.group,
    'NetworkInterface.1.AssociatePublicIpAddress': 'false',
    'BlockDeviceMapping.1.Ebs.DeleteOnTermination': 'true',
    InstanceInitiatedShutdownBehavior: 'terminate',
    InstanceType: 't3.small',
    'MetadataOptions.HttpTokens': 'required',
  })
  expect(form.has('SubnetId')).toBe(false)
  expect(form.has('IamInstanceProfile.Arn')).toBe(false)
  const userData = Buffer.from(form.get('UserData')!, 'base64').toString()
  expect(userData).toMatch(/^#cloud-config\n#bake proof=console release=v2 sha=1{40}\n$/)
  const [instance] = await aws.instances.tagged({ 'bake:run': run.id })
  expect(instance).toMatchObject({ state: 'terminated', tags: { 'bake:project': 'shop', 'bake:role': 'proof' } })
})

test('it starts as the launch template’s newest version would, with the script that stands in', async () => {
  world.gaps.console = () => say(begin, healthy('web'), end(true))
  const name = uniqueName('shop')
  const mine = '#!/bin/sh\necho PORT=1 > /etc/shop/web.env\n'
  const LaunchTemplateData = {
    InstanceType: 'c7i.large' as const,
    UserData: Buffer.from(mine).toString('base64'),
    MetadataOptions: { HttpTokens: 'optional' as const, HttpPutResponseHopLimit: 3 },
  }
  await world.client().send(new CreateLaunchTemplateCommand({ LaunchTemplateName: name, LaunchTemplateData }))
  const plan = amiPlan({ services: [serviceOf('web')], definition: { launchTemplate: name } })
  await prove(await bakedAmi(), { plan: { ...plan, rendered: { ...plan.rendered, proof: '#!/bin/bash\necho stand in\n' } } })
  const { form } = started()!
  expect(form.get('InstanceType')).toBe('c7i.large')
  expect(form.get('MetadataOptions.HttpTokens')).toBe('optional')
  const userData = Buffer.from(form.get('UserData')!, 'base64').toString()
  expect(userData).toContain(mine)
  const encoded = [...userData.matchAll(/^#bake-proof (.+)$/gm)].map(([, text]) => text).join('')
  expect(Buffer.from(encoded, 'base64').toString()).toBe('#!/bin/bash\necho stand in\n')
})

test('a zone without room is passed over', async () => {
  world.gaps.console = () => say(begin, healthy('web'), healthy('jobs'), end(true))
  const network = (await aws.network.find())!
  const full = network.subnets[0]!.id
  world.gaps.refuse = (action, form) =>
    action === 'RunInstances' && form.get('NetworkInterface.1.SubnetId') === full ? 'Unsupported' : undefined
  const run = newRun()
  await prove(await bakedAmi(), { run })
  const { form } = started()!
  expect(form.get('NetworkInterface.1.SubnetId')).toBe(network.subnets[1]!.id)
})

describe('stand-ins', () => {
  const db = { name: 'db', image: 'jobs-db', env: {} }
  const services = [serviceOf('web', { proof: { env: {}, with: [db], level: 'healthy' } }), serviceOf('jobs', { after: ['web'] })]
  const standIns = [{ image: 'jobs-db', repository: 'registry.example.com/shop/jobs-db', digest: digestOf('c') }]
  const plan = { ...amiPlan({ services }), standIns }
  const snapshots = () => world.gaps.store.all(MOTO_REGION).filter(({ volumeGib }) => volumeGib === 1)
  const well = say(begin, healthy('web'), healthy('jobs'), end(true))

  test('are on a volume of their own, made for the proof and gone after it', async () => {
    let seen: ReturnType<typeof snapshots> = []
    world.gaps.console = () => {
      seen = snapshots()
      return well
    }
    // Puts are refused now and then, and what was just made isn't seen at once.
    let puts = 0
    world.ebs.fault = ({ action }) =>
      action === 'PutSnapshotBlock' && puts++ % 2 === 0 ? 'RequestThrottledException' : undefined
    const proof = await prove(await bakedAmi(), { plan })
    expect(proof.standIns).toEqual(['db'])
    expect(proof.boots[0]?.services.map(({ service }) => service)).toEqual(['web', 'jobs'])
    const blocks = [ARCHIVE.subarray(0, MIB / 2), Buffer.concat([ARCHIVE.subarray(MIB), Buffer.alloc(MIB / 2 - 7)])]
    const digest = (data: Buffer) => createHash('sha256').update(data).digest('hex')
    const inOrder = (put: (typeof seen)[number]['blocks']) => [...put].sort(([a], [b]) => a - b)
    expect(seen.map(({ state, blocks }) => [state, ...inOrder(blocks)])).toEqual([
      ['completed', [0, digest(blocks[0]!)], [2, digest(blocks[1]!)]],
    ])
    expect(Object.fromEntries(started()!.form)).toMatchObject({
      'BlockDeviceMapping.2.DeviceName': '/dev/sdf',
      'BlockDeviceMapping.2.Ebs.SnapshotId': seen[0]!.id,
      'BlockDeviceMapping.2.Ebs.DeleteOnTermination': 'true',
    })
    expect(snapshots()).toEqual([])
  })

  test('are gone when the proof fails', async () => {
    const failing = { type: 'service', name: 'web', state: 'failed', seconds: 60, digest: '', why: 'stand-in db: not healthy' }
    world.gaps.console = () => say(begin, failing, healthy('jobs'), end(false))
    await expect(prove(await bakedAmi(), { plan })).rejects.toMatchObject({
      code: 'proof_failed',
      message: expect.stringContaining('web: stand-in db: not healthy'),
    })
    expect(snapshots()).toEqual([])
  })

  test.for(['StartSnapshot', 'PutSnapshotBlock', 'CompleteSnapshot'])(
    'without permission for %s the action is named, and nothing is started or left',
    async (action) => {
      world.ebs.denied.add(action)
      await expect(prove(await bakedAmi(), { plan })).rejects.toMatchObject({
        code: 'ec2_denied',
        exit: 4,
        next: expect.stringContaining(`ebs:${action}`),
      })
      expect(started()).toBeUndefined()
      expect(snapshots()).toEqual([])
    },
  )
})

describe('it is not proven, and its instance is gone,', () => {
  const cases: [string, object[], RegExp][] = [
    [
      'when a service fails: with its journal',
      [
        begin,
        healthy('web'),
        { type: 'service', name: 'jobs', state: 'failed', seconds: 9, digest: '', why: 'not up after 60 s' },
        { type: 'log', name: 'jobs', text: 'cannot reach npm' },
        end(false),
      ],
      /jobs: not up after 60 s\njobs's journal:\n {2}cannot reach npm/,
    ],
    [
      'when a service runs another image',
      [begin, healthy('web'), { ...healthy('jobs'), digest: digestOf('b') }, end(true)],
      /jobs: runs sha256:bbb/,
    ],
    ['when a service isn’t reported', [begin, healthy('web'), end(true)], /jobs: nothing was reported/],
    [
      'when it is another disk',
      [{ ...begin, inputs: 'e'.repeat(64) }, healthy('web'), healthy('jobs'), end(true)],
      /made from other inputs/,
    ],
  ]
  test.for(cases)('%s', async ([, lines, message]) => {
    const baked = await bakedAmi()
    const run = newRun()
    world.gaps.console = () => kernel + say(...lines)
    await expect(prove(baked, { run })).rejects.toMatchObject({
      code: 'proof_failed',
      exit: 3,
      message: expect.stringMatching(message),
    })
    expect(await leftOf(run)).toEqual([])
    expect((await aws.images.get(baked.id))?.tags['bake:proven']).toBe('false')
  })

  test('when the instance ends without a word: with the console’s last lines', async () => {
    const baked = await bakedAmi()
    const run = newRun()
    world.gaps.console = (id, looks) => {
      if (looks === 3) void world.client().send(new TerminateInstancesCommand({ InstanceIds: [id] }))
      return `${kernel}Kernel panic - not syncing`
    }
    await expect(prove(baked, { run })).rejects.toMatchObject({
      code: 'proof_failed',
      message: expect.stringMatching(/the instance ended.*the console’s last lines:.*Kernel panic/s),
    })
  })

  test('when it takes too long', async () => {
    const run = newRun()
    const plan = amiPlan({ services: [] })
    await expect(prove(await bakedAmi(), { run, plan, at: { ...aws, bootSeconds: 0.1 } })).rejects.toMatchObject({
      message: expect.stringContaining('it took longer than 0.1 s'),
    })
    expect(await leftOf(run)).toEqual([])
  })

  test('when the person stops it', async () => {
    const stop = new AbortController()
    const run = newRun(stop.signal)
    world.gaps.console = (_, looks) => {
      if (looks === 2) stop.abort(new Error('stopped'))
      return kernel
    }
    await expect(prove(await bakedAmi(), { run })).rejects.toThrow()
    expect(await leftOf(run)).toEqual([])
  })

  test.for(['RunInstances', 'GetConsoleOutput', 'DescribeVpcs', 'ModifyImageAttribute'])(
    'without permission for %s, which is named',
    async (action) => {
      const baked = await bakedAmi()
      const run = newRun()
      world.gaps.denied.add(action)
      await expect(prove(baked, { run })).rejects.toMatchObject({
        code: 'ec2_denied',
        next: expect.stringContaining(`ec2:${action}`),
      })
      world.gaps.denied.clear()
      expect(await leftOf(run)).toEqual([])
    },
  )

  test('when EC2’s answer to its start was lost', async () => {
    const baked = await bakedAmi()
    const run = newRun()
    await using proxy = await startAwsProxy(world.gaps.endpoint)
    proxy.inject({ service: 'ec2', action: 'RunInstances' }, 'lost')
    vi.stubEnv('AWS_ENDPOINT_URL_EC2', proxy.endpoint)
    vi.stubEnv('AWS_MAX_ATTEMPTS', '2')
    const lossy = worldOf(MOTO_REGION)
    await expect(prove(baked, { run, at: lossy })).rejects.toMatchObject({ code: 'ec2_unreachable' })
    vi.stubEnv('AWS_ENDPOINT_URL_EC2', world.gaps.endpoint)
    vi.stubEnv('AWS_MAX_ATTEMPTS', '')
    const made = await aws.instances.tagged({ 'bake:run': run.id })
    expect(made.map(({ state }) => state)).toEqual(['terminated'])
  })
})

describe('nothing is started', () => {
  test('when what stands in is too long for user-data', async () => {
    const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(20_000))).toString('base64')
    const plan = { ...web, rendered: { ...web.rendered, proof: noise } }
    await expect(prove(await bakedAmi(), { plan })).rejects.toMatchObject({ code: 'proof_too_long', exit: 2 })
    expect(started()).toBeUndefined()
  })

  test('where there is no network for proofs', async () => {
    await expect(prove(await bakedAmi(), { at: { ...aws, network: worldOf('us-west-2').network } })).rejects.toMatchObject({
      code: 'proof_network_missing',
      exit: 4,
      next: expect.stringContaining('bake setup'),
    })
    expect(started()).toBeUndefined()
  })

  test('in a network that leads somewhere', async () => {
    const found = (await aws.network.find())!
    const network = { region: MOTO_REGION, find: async () => ({ ...found, routes: ['0.0.0.0/0'], dns: true }) }
    await expect(prove(await bakedAmi(), { at: { ...aws, network } })).rejects.toMatchObject({
      code: 'proof_network_open',
      message: expect.stringMatching(/a route to 0\.0\.0\.0\/0, names are resolved/),
    })
    expect(started()).toBeUndefined()
  })
})
